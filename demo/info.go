package demo

import (
	"fmt"
	"runtime"
)

// appendInfo appends the answer of `/info`. The model has no longest input: a
// text as long as a body may be is read to its end. The version is that of the
// dialect.
func (s *Server) appendInfo(dst []byte) []byte {
	model := appendString(nil, s.options.Model)
	return fmt.Appendf(dst, `{"model_id":%[1]s,"model_sha":null,"model_dtype":"float32",`+
		`"served_model_name":%[1]s,"model_type":{"embedding":{"pooling":"mean"}},`+
		`"max_concurrent_requests":%[2]d,"max_input_length":%[3]d,"max_batch_tokens":%[3]d,`+
		`"max_batch_requests":null,"max_client_batch_size":%[4]d,"auto_truncate":true,`+
		`"tokenization_workers":%[5]d,"version":"1.9.3","sha":null,"docker_label":null}`,
		model, s.options.MaxConcurrent, maxBody, s.options.MaxBatch, runtime.GOMAXPROCS(0))
}
