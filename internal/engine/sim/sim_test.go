package sim_test

import (
	"testing"

	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/engine/enginetest"
	"github.com/ebb-compute/ebb/internal/engine/sim"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	enginetest.Run(t, enginetest.Harness{
		Open:   func(*testing.T) engine.Driver { return &sim.Engine{} },
		Full:   func(*testing.T) engine.Driver { return &sim.Engine{Room: 2} },
		Reopen: func(_ *testing.T, d engine.Driver) engine.Driver { return d },
		Kill:   func(_ *testing.T, d engine.Driver, id string) { d.(*sim.Engine).Kill(id, "the power went out") },
	})
}
