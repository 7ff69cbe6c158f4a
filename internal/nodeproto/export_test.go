package nodeproto

// RefusalOf is Refusal with other versions.
var RefusalOf = refusal
