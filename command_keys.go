package performanceproxy

import (
	"errors"
	"slices"
	"strings"
)

// referToKey returns a reference to a variable that holds a key as text, so
// that the key is not in the configuration. What is a reference itself stays.
func referToKey(variable, value string) (string, error) {
	if isReference(value) {
		return value, nil
	}
	return reference(variable), nil
}

// referToKeys returns a reference to a variable that holds client keys as text,
// so that the keys are not in the configuration. What consists of references,
// or is the word that accepts every client, stays. Keys beside references are
// refused: in the configuration the keys would show, and behind a reference to
// the variable a path would be taken for a key.
func referToKeys(variable, value string) (string, error) {
	items := listItems(value)
	if slices.Equal(items, []string{"any"}) || !slices.ContainsFunc(items, isKeyText) {
		return value, nil
	}
	if slices.ContainsFunc(items, isReference) {
		return "", errors.New("expected keys or paths of files that hold them, not both")
	}
	return reference(variable), nil
}

// reference returns the placeholder that stands for a variable.
func reference(variable string) string { return "{env." + variable + "}" }

// isReference reports whether a value says where a key is. A relative path does
// so, too, for the handler to refuse it: behind a reference to the variable it
// would be taken for a key.
func isReference(value string) bool {
	return slices.ContainsFunc([]string{"/", "$/", "{", "./", "../", "~/"}, func(prefix string) bool {
		return strings.HasPrefix(value, prefix)
	})
}

// isKeyText reports whether a value is the key itself.
func isKeyText(value string) bool { return !isReference(value) }
