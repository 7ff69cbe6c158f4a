package storetest_test

import (
	"testing"

	"github.com/ebb-compute/ebb/internal/store/storetest"
)

func TestTheModelKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) storetest.Store { return storetest.NewModel() })
}
