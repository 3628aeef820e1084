package handler

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	// keyFileInterval is the least time between two looks at a key file. A
	// changed file is in use this soon, and a busy proxy does not ask the file
	// system at every request.
	keyFileInterval = 100 * time.Millisecond

	// mtimeGranule is the coarsest clock of a file system in use (FAT counts two
	// seconds). A file that was changed less than this before it was read may
	// change once more and keep its time, so its time proves nothing yet.
	mtimeGranule = 2 * time.Second
)

// A keyFile is a file of keys that is read again when it changes, so that a
// rotated secret needs no restart. Later faults of the file (gone, unreadable,
// empty, malformed) leave the last good value in use and are logged when they
// begin and when they end. Secrets should be replaced by renaming, as Kubernetes
// does: a file that is rewritten in place may be read half written.
//
// It is safe for concurrent use, and one caller at a time looks at the file: a
// file system that hangs holds up that one alone.
type keyFile[T any] struct {
	setting keySetting
	path    string
	limit   int64
	// parse makes the value of the file's content. Its errors say nothing of
	// the content.
	parse func(content []byte) (T, error)

	opened  time.Time
	checked atomic.Int64 // the last look, as a time.Duration since opened
	value   atomic.Pointer[T]

	looking sync.Mutex
	info    os.FileInfo // of the content in value; guarded by looking
	settled bool        // info would differ had the content changed; guarded by looking
	faulty  bool        // the last look failed; guarded by looking
}

// A KeyFileError is a key file that cannot be used when the handler is
// provisioned.
type KeyFileError struct {
	// Setting is the setting that names the file.
	Setting string
	Path    string
	Err     error
}

func (e *KeyFileError) Error() string {
	return fmt.Sprintf("%s: reading the key file %s: %v", e.Setting, e.Path, e.Err)
}

func (e *KeyFileError) Unwrap() error { return e.Err }

// openKeyFile reads the file at path, of at most limit bytes, for the first
// time. Its errors are [KeyFileError]s.
func openKeyFile[T any](setting keySetting, path string, limit int64, parse func([]byte) (T, error)) (*keyFile[T], error) {
	f := &keyFile[T]{setting: setting, path: path, limit: limit, parse: parse, opened: time.Now()}
	f.looking.Lock()
	defer f.looking.Unlock()
	if _, err := f.look(); err != nil {
		return nil, &KeyFileError{Setting: setting.name, Path: path, Err: err}
	}
	return f, nil
}

// current returns the value of the file, as it was at most [keyFileInterval]
// ago.
func (f *keyFile[T]) current() T {
	now := time.Since(f.opened)
	if now-time.Duration(f.checked.Load()) >= keyFileInterval && f.looking.TryLock() {
		defer f.looking.Unlock()
		f.refresh()
		f.checked.Store(int64(now))
	}
	return *f.value.Load()
}

// refresh looks at the file and logs changes of its state. The caller holds
// f.looking.
func (f *keyFile[T]) refresh() {
	changed, err := f.look()
	log, where := f.setting.logger, []zap.Field{zap.String("setting", f.setting.name), zap.String("path", f.path)}
	switch {
	case err != nil && !f.faulty:
		log.Warn("cannot use the key file, its last content stays in use", append(where, zap.Error(err))...)
	case err == nil && f.faulty:
		log.Info("the key file can be used again", where...)
	case err == nil && changed:
		log.Info("read the changed key file", where...)
	}
	f.faulty = err != nil
}

// look reads the file when it differs from what was read last, or may differ,
// and reports whether it is another file or version. The caller holds
// f.looking.
func (f *keyFile[T]) look() (changed bool, err error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return false, withoutPath(err)
	}
	// Opening a pipe would wait for a writer.
	if !info.Mode().IsRegular() {
		return false, errors.New("it is not a regular file")
	}
	changed = f.info == nil || !sameVersion(f.info, info)
	if !changed && f.settled {
		return false, nil
	}
	return changed, f.read()
}

// read takes the content of the file as the new value. The caller holds
// f.looking.
func (f *keyFile[T]) read() error {
	file, err := os.Open(f.path)
	if err != nil {
		return withoutPath(err)
	}
	defer file.Close() //nolint:errcheck // nothing was written

	// The state is taken before the content, and of the open file: a change
	// that comes between or later shows at the next look.
	started := time.Now()
	info, err := file.Stat()
	if err != nil {
		return withoutPath(err)
	}
	content, err := io.ReadAll(io.LimitReader(file, f.limit+1))
	if err != nil {
		return withoutPath(err)
	}
	if int64(len(content)) > f.limit {
		return fmt.Errorf("it is larger than %d bytes", f.limit)
	}
	value, err := f.parse(content)
	if err != nil {
		return err
	}
	f.value.Store(&value)
	f.info = info
	f.settled = started.Sub(info.ModTime()) > mtimeGranule
	return nil
}

// sameVersion reports whether a and b are the same file, as far as it tells
// unchanged. Kubernetes replaces mounted secrets by other files behind a
// symbolic link, which may keep their size and time.
func sameVersion(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// withoutPath returns the cause in err, whose path is named elsewhere.
func withoutPath(err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err
	}
	return err
}
