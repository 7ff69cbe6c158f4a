package nodeproto_test

import (
	"strings"
	"testing"

	"github.com/ebb-compute/ebb/internal/nodeproto"
	"github.com/ebb-compute/ebb/internal/nodeproto/wiretest"
)

// Every field of version 1 is in these files.
func TestVersion1IsAsItWas(t *testing.T) {
	t.Parallel()
	const dir = "testdata/v1/"
	h := wiretest.Golden[nodeproto.Hello](t, dir+"hello.json")
	if len(h.Report.Attempts) != 1 || h.Report.Attempts[0].Exit == nil || h.Installation == "" {
		t.Errorf("the hello says less than it did: %+v", h)
	}
	wiretest.Golden[nodeproto.Report](t, dir+"report.json")
	wiretest.Golden[nodeproto.Desired](t, dir+"desired.json")
	wiretest.Golden[nodeproto.Message](t, dir+"exec.json")
	wiretest.Golden[nodeproto.Order](t, dir+"order.json")
	wiretest.Golden[nodeproto.LogSize](t, dir+"log-size.json")
	wiretest.Golden[nodeproto.Content](t, dir+"content.json")
	wiretest.Golden[nodeproto.ExecSize](t, dir+"exec-size.json")
	wiretest.Golden[nodeproto.ExecEnd](t, dir+"exec-end.json")
	// What gangs added.
	wiretest.Golden[nodeproto.Hello](t, dir+"hello-gang.json")
	wiretest.Golden[nodeproto.Report](t, dir+"report-gang.json")
	wiretest.Golden[nodeproto.Desired](t, dir+"desired-gang.json")
	wiretest.Golden[nodeproto.Message](t, dir+"exec-gang.json")
	wiretest.Golden[nodeproto.Order](t, dir+"order-gang.json")
	// What restores added.
	if d := wiretest.Golden[nodeproto.Desired](t, dir+"desired-epoch.json"); d.Epoch != 29_400_000 {
		t.Errorf("the epoch is %d", d.Epoch)
	}
	wiretest.Golden[nodeproto.Report](t, dir+"report-epoch.json")
	channels := []nodeproto.Channel{nodeproto.Stdin, nodeproto.StdinEnd, nodeproto.Resize, nodeproto.Stdout, nodeproto.Stderr, nodeproto.ExecOver}
	for i, c := range channels {
		if int(c) != i {
			t.Errorf("channel %d is %d now", i, c)
		}
	}
	if nodeproto.Path != "/ebb/nodes/v1/" || nodeproto.CloseGone != 4410 || nodeproto.CloseRefused != 4403 || nodeproto.CloseSuperseded != 4409 {
		t.Error("an agent of version 1 asks elsewhere, and knows other codes")
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		version, oldest, newest int
		want                    string // in the refusal; empty: it is served
	}{
		"the only version is served":                {1, 1, 1, ""},
		"the newer of two is served":                {7, 6, 7, ""},
		"the older of two is served":                {6, 6, 7, ""},
		"for a newer agent the server is upgraded":  {8, 6, 7, "upgrade the server"},
		"for an older agent the node is upgraded":   {5, 6, 7, "this server 6 and 7: the node needs a newer ebb"},
		"an agent that names no version is too old": {0, 1, 1, "this server only 1: the node needs a newer ebb"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := nodeproto.RefusalOf(tt.version, tt.oldest, tt.newest)
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q in it", got, tt.want)
			}
			if len(got) > 120 {
				t.Errorf("%q does not fit into a close", got)
			}
		})
	}
	if nodeproto.Refusal(nodeproto.Version) != "" || nodeproto.Refusal(nodeproto.Oldest) != "" {
		t.Error("what we speak is refused")
	}
	if nodeproto.Refusal(nodeproto.Version+1) == "" || nodeproto.Refusal(nodeproto.Oldest-1) == "" {
		t.Error("what nobody here knows is served")
	}
}
