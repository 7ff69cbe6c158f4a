package cli

import (
	"crypto/rand"
	"fmt"
	"math/big"
)

var (
	nameMoods  = []string{"amber", "brave", "bright", "calm", "clever", "eager", "gentle", "happy", "jolly", "keen", "lively", "mellow", "merry", "patient", "quiet", "swift"}
	nameThings = []string{"bay", "beach", "cliff", "coral", "delta", "dune", "foam", "gull", "harbor", "island", "kelp", "lagoon", "reef", "river", "shell", "tide"}
)

// madeUpName is a name people can say, with an end that makes it the only one.
func madeUpName() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	end := make([]byte, 10)
	for i := range end {
		end[i] = letters[anyOf(len(letters))]
	}
	return nameMoods[anyOf(len(nameMoods))] + "_" + nameThings[anyOf(len(nameThings))] + "_" + string(end)
}

func anyOf(n int) int {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		panic("cli: no random numbers: " + err.Error()) // crypto/rand never fails on a working system
	}
	return int(i.Int64())
}

// newID is a random UUID, as az names the code that it uploads.
func newID() string {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		panic("cli: no random numbers: " + err.Error())
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
