package shim

// Main is `ebb shim DIR`: it runs the attempt of a folder and returns the exit
// status of the shim itself, not of the job. DIR/lock must come as descriptor 3,
// locked, from [Start].
func Main(args []string) int { return 2 }
