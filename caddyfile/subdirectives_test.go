package caddyfile

import (
	"bytes"
	"cmp"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/basetenlabs/caddy-performance-proxy/handler"
)

// jsonNames returns the names of the JSON fields of a struct and of those
// embedded in it.
func jsonNames(t reflect.Type) []string {
	var found []string
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous && name == "":
			found = append(found, jsonNames(field.Type)...)
		case name != "" && name != "-":
			found = append(found, name)
		}
	}
	return found
}

func TestEveryFieldHasOneSubdirective(t *testing.T) {
	t.Parallel()
	fields := jsonNames(reflect.TypeFor[handler.Handler]())
	var rows []string
	for _, row := range subdirectives() {
		rows = append(rows, cmp.Or(row.field, row.name))
	}
	for _, field := range fields {
		if !slices.Contains(rows, field) {
			t.Errorf("the field %s has no subdirective", field)
		}
	}
	for i, row := range rows {
		if !slices.Contains(fields, row) {
			t.Errorf("the subdirective %s has no field", row)
		}
		if slices.Contains(rows[:i], row) {
			t.Errorf("the subdirective %s stands twice in the table", row)
		}
	}
}

func TestPreferencesAreTheFieldsOfSettings(t *testing.T) {
	t.Parallel()
	fields := jsonNames(reflect.TypeFor[handler.Settings]())
	rows := names(func(u use) bool { return u != operatorOnly })
	slices.Sort(fields)
	slices.Sort(rows)
	if !slices.Equal(rows, fields) {
		t.Errorf("the preferences are\n%v\nthe fields of Settings are\n%v", rows, fields)
	}
}

func TestHandlerKnowsThePreferences(t *testing.T) {
	t.Parallel()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	known := append(names(func(u use) bool { return u != operatorOnly }), requestPreferences...)
	h := handler.Handler{DenyPreferences: known}
	if err := h.Provision(ctx); err != nil {
		t.Errorf("the handler does not take the preferences that the parser takes: %v", err)
	}
	if err := h.Cleanup(); err != nil {
		t.Error(err)
	}
}

func TestHandlerCapsTheNumericPreferences(t *testing.T) {
	t.Parallel()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	defer cancel()
	// Each range holds one of these numbers.
	inRange := []float64{1, 100}
	for _, row := range subdirectives() {
		if row.use == operatorOnly {
			continue
		}
		capped := slices.ContainsFunc(inRange, func(limit float64) bool {
			h := handler.Handler{Cap: map[string]float64{row.name: limit}}
			err := h.Provision(ctx)
			return err == nil && h.Cleanup() == nil
		})
		if capped != (row.use == numericPreference) {
			t.Errorf("the handler caps %s: %t, the parser: %t", row.name, capped, !capped)
		}
	}
}

// The golden files and the grammar in the documentation of the package are kept
// complete by this test.
func TestEverySubdirectiveIsShown(t *testing.T) {
	t.Parallel()
	for _, files := range [][]string{
		{"caddyfile.go"},
		// What may not stand beside dial_timeout and to has a file of its own.
		{"testdata/every_subdirective.caddyfiletest", "testdata/transport_tls.caddyfiletest", "testdata/dynamic.caddyfiletest"},
	} {
		var shown []byte
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			shown = append(shown, data...)
		}
		for _, name := range names(nil) {
			if !bytes.Contains(shown, []byte("\t"+name+" ")) {
				t.Errorf("%s do not show %s", strings.Join(files, ", "), name)
			}
		}
	}
}

// TestForeignWordsAreNoSubdirectives holds that no hint stands in the way of a
// setting, and that hints name settings that there are.
func TestForeignWordsAreNoSubdirectives(t *testing.T) {
	t.Parallel()
	known := append(names(nil), requestPreferences...)
	for word, hint := range foreignWords {
		if slices.Contains(known, word) {
			t.Errorf("%s is a setting", word)
		}
		for name := range strings.FieldsFuncSeq(hint, func(r rune) bool { return strings.ContainsRune(" ,:", r) }) {
			if strings.Contains(name, "_") && !slices.Contains(known, name) {
				t.Errorf("the hint of %s names %s, which is no setting", word, name)
			}
		}
	}
}

func TestSuggest(t *testing.T) {
	t.Parallel()
	known := names(nil)
	for name, test := range map[string]struct {
		unknown string
		known   []string
		want    string
	}{
		"one is near":         {"timeouts", known, `did you mean "timeout_s"?`},
		"a word is shared":    {"upstream_keys", known, "the nearest are client_keys, max_upstream_requests, max_upstream_items"},
		"nothing is shared":   {"compress", known, "no setting has a name like that"},
		"there are only few":  {"compress", []string{"size", "per_reply"}, "expected one of size, per_reply"},
		"only max is shared":  {"max_trailers_sent", known, "no setting has a name like that"},
		"capitals and dashes": {"UPSTREAM-Keys", known, "the nearest are client_keys, max_upstream_requests, max_upstream_items"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := suggest(test.unknown, test.known); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"batch_size", "timeout_s", "to"}
	for name, test := range map[string]struct {
		unknown string
		want    string
	}{
		"a letter is missing":      {"bach_size", "batch_size"},
		"a letter is too much":     {"batch_sizes", "batch_size"},
		"a letter is another":      {"batch_sice", "batch_size"},
		"two letters are swapped":  {"batch_szie", "batch_size"},
		"the ending is missing":    {"timeout", "timeout_s"},
		"capitals and dashes":      {"Batch-Size", "batch_size"},
		"nothing is near":          {"reverse_proxy", ""},
		"short names are not near": {"lb", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := nearest(test.unknown, known)
			if got != test.want || ok != (test.want != "") {
				t.Errorf("got %q, %t, want %q", got, ok, test.want)
			}
		})
	}
}
