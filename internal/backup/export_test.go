package backup

// Own is own.
var Own = own
