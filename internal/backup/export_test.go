package backup

var (
	Own  = own
	Swap = swap
)
