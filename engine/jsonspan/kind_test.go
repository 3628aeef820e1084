package jsonspan

import "testing"

func TestKindString(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Kind]string{
		None: "nothing", Null: "null", False: "false", True: "true", Integer: "integer",
		Number: "number", String: "string", Array: "array", Object: "object",
		Overflow: "number out of range", Overflow + 1: "kind 10",
	} {
		if got := kind.String(); got != want {
			t.Errorf("kind %d is %q, want %q", uint8(kind), got, want)
		}
	}
}

func TestKindSet(t *testing.T) {
	t.Parallel()
	numbers := Kinds(Integer, Number)
	for name, holds := range map[string]bool{
		"a set has its members":                   numbers.Has(Integer) && numbers.Has(Number),
		"a set has nothing else":                  !numbers.Has(String) && !numbers.Has(None),
		"a set holds only its members":            numbers.Only(Number, Integer),
		"a set holds only members of a wider set": numbers.Only(Number, Integer, String),
		"a set does not hold only some members":   !numbers.Only(Number),
		"the empty set holds only anything":       KindSet(0).Only() && KindSet(0).Only(String),
		"the last kind fits":                      Kinds(Overflow).Has(Overflow) && Kinds(Overflow).Only(Overflow),
	} {
		if !holds {
			t.Errorf("not so: %s", name)
		}
	}
}
