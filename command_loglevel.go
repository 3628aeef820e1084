package performanceproxy

import (
	"errors"
	"strings"
)

// logLevels are the levels of the original in Caddy's words.
var logLevels = map[string]string{
	"trace": "DEBUG",
	"debug": "DEBUG",
	"info":  "INFO",
	"warn":  "WARN",
	"error": "ERROR",
	"off":   "FATAL",
}

func setLogLevel(o *options, value string) error {
	level, ok := logLevels[strings.ToLower(value)]
	if !ok {
		return errors.New("expected trace, debug, info, warn, error or off")
	}
	o.logLevel = level
	return nil
}

// firstLevel returns the first level in the value of RUST_LOG, whose form is
// `level` or `module=level`, several of them separated by commas. Without any
// level, which other programs allow, it returns nothing.
func firstLevel(_, value string) (string, error) {
	for directive := range strings.SplitSeq(value, ",") {
		level := strings.TrimSpace(directive[strings.LastIndex(directive, "=")+1:])
		if _, ok := logLevels[strings.ToLower(level)]; ok {
			return level, nil
		}
	}
	return "", nil
}
