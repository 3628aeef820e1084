package demo

import (
	"fmt"
	"net/http"
)

// The types of errors that are answered as JSON.
const (
	typeValidation = "Validation"
	typeEmpty      = "Empty"
	typeOverloaded = "Overloaded"
)

// refusal is an answer other than 200: JSON when it has a type, else plain text,
// which is how the reference server answers what it could not even read.
type refusal struct {
	status    int
	errorType string
	message   string
}

func (r *refusal) Error() string {
	return r.message
}

// invalid refuses the value of a parameter or the size of a batch.
func invalid(format string, args ...any) *refusal {
	return &refusal{http.StatusUnprocessableEntity, typeValidation, fmt.Sprintf(format, args...)}
}

// empty refuses a request without any item or with an empty one.
func empty(message string) *refusal {
	return &refusal{http.StatusBadRequest, typeEmpty, message}
}

// emptyItem refuses a request with an empty text or list of token ids.
func emptyItem() *refusal {
	return empty("Input validation error: `inputs` cannot be empty")
}

// overloaded refuses a request for which there are not enough permits.
func overloaded() *refusal {
	return &refusal{http.StatusTooManyRequests, typeOverloaded, "Model is overloaded"}
}

// badSyntax refuses a body that is no JSON.
func badSyntax(err error) *refusal {
	return &refusal{http.StatusBadRequest, "", "Failed to parse the request body as JSON: " + err.Error()}
}

// badType refuses a JSON document whose members are not what the route expects.
func badType(format string, args ...any) *refusal {
	return &refusal{http.StatusUnprocessableEntity, "",
		"Failed to deserialize the JSON body into the target type: " + fmt.Sprintf(format, args...)}
}

// appendJSON appends the refusal as JSON; the routes of OpenAI's form name the
// same things differently.
func (r *refusal) appendJSON(dst []byte, openAI bool) []byte {
	if openAI {
		dst = append(dst, `{"message":`...)
		dst = appendString(dst, r.message)
		dst = fmt.Appendf(dst, `,"code":%d,"type":`, r.status)
	} else {
		dst = append(dst, `{"error":`...)
		dst = appendString(dst, r.message)
		dst = append(dst, `,"error_type":`...)
	}
	dst = appendString(dst, r.errorType)
	return append(dst, '}')
}
