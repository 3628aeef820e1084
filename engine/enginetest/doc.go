// Package enginetest holds the model server that the tests of the engine and of
// the handler talk to. It computes nothing, but its answers follow from the
// items alone, so that a test knows what every item must become, however the
// items were batched.
//
//	up := enginetest.New()
//	up.Script = enginetest.First(1, enginetest.Status(503, "busy"))
//	url := up.Serve(t)          // over loopback, or
//	endpoint.Transport = up     // in memory, for testing/synctest
//
// What goes wrong is said by a [Script], which gives every call its faults. A
// [Fault] is a function that changes the reply, so that a test makes its own
// where the package has none. Faults are applied in order: those of the entries
// (such as [Missing]) come before those of the body (such as [Gzip]), which work
// on what is sent.
package enginetest
