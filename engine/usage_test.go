package engine

import (
	"errors"
	"testing"
)

func TestAddUp(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		parts []string
		want  string
	}{
		"integers are added":                      {[]string{`1`, `20`, `300`}, `321`},
		"one part stays as it is":                 {[]string{`{"a":1}`}, `{"a":1}`},
		"members are added in the same place":     {[]string{`{"a":1,"b":2}`, `{"b":3,"a":4}`}, `{"a":5,"b":5}`},
		"nested numbers are added":                {[]string{`{"d":{"c":1}}`, `{"d":{"c":2}}`}, `{"d":{"c":3}}`},
		"null stays null":                         {[]string{`{"a":null}`, `{"a":null}`}, `{"a":null}`},
		"a number beside null counts":             {[]string{`{"a":null}`, `{"a":7}`, `{"a":null}`}, `{"a":7}`},
		"members of later replies are kept":       {[]string{`{"a":1}`, `{"b":{"c":2}}`, `{"b":{"c":3}}`}, `{"a":1,"b":{"c":5}}`},
		"what is no number comes from the first":  {[]string{`{"s":"x","t":true}`, `{"s":"y","t":false}`}, `{"s":"x","t":true}`},
		"integers over 64 bits are exact":         {[]string{`18446744073709551615`, `1`}, `18446744073709551616`},
		"decimals are exact":                      {[]string{`0.1`, `0.2`}, `0.3`},
		"exponents are written out":               {[]string{`1e3`, `2.5e-3`}, `1000.0025`},
		"negative numbers are added":              {[]string{`-1.5`, `1`}, `-0.5`},
		"small negative numbers keep their zeros": {[]string{`-0.001`, `-0.002`}, `-0.003`},
		"zero is zero":                            {[]string{`0`, `-0`}, `0`},
		"arrays of one length are added":          {[]string{`[{"n":1},2]`, `[{"n":10},20]`}, `[{"n":11},22]`},
		"arrays of several lengths are the first": {[]string{`[1,2]`, `[1]`}, `[1,2]`},
		"names with escapes are the same names":   {[]string{`{"a\u0062":1}`, `{"ab":2}`}, `{"a\u0062":3}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := sum(test.parts...)
			if err != nil || got != test.want {
				t.Errorf("got %s, %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestAddUpRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string][]string{
		"a member that stands twice":     {`{"a":1,"a":2}`, `{"a":1}`},
		"an exponent that is out of all": {`1e999999999`, `1`},
		"a small exponent out of all":    {`1e-99999`, `1`},
		"an exponent over an integer":    {`1e99999999999999999999`, `1`},
	}
	for name, parts := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := sum(parts...); !errors.Is(err, errUsage) {
				t.Errorf("got %s, %v, want errUsage", got, err)
			}
		})
	}
}

// sum adds documents up.
func sum(docs ...string) (string, error) {
	var parts []part
	for _, doc := range docs {
		p, err := parsePart([]byte(doc))
		if err != nil {
			return "", err
		}
		parts = append(parts, p)
	}
	got, err := addUp(nil, parts)
	return string(got), err
}
