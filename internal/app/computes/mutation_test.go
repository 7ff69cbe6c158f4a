package computes_test

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ebb-compute/ebb/internal/app/computes"
	"github.com/ebb-compute/ebb/internal/fault"
)

// strange values that a property may come with.
var strange = []any{
	nil, true, false, "", " ", "None", "none", "Enabled", "LowPriority", "low_priority", "PT0S", "PT5M", "P1Y", "standard_nc6", "\x00", "ä", "/subscriptions/s",
	uai + "x", subnet, json.Number("0"), json.Number("1"), json.Number("-1"), json.Number("1.5"), json.Number("65000"), json.Number("1e999"), json.Number("9223372036854775808"),
	map[string]any{}, []any{}, []any{map[string]any{}}, map[string]any{"id": subnet}, map[string]any{"type": "UserAssigned"}, map[string]any{uai + "y": nil}, map[string]any{"": map[string]any{}},
}

// mutate changes one thing somewhere in m.
func mutate(rng *rand.Rand, m map[string]any) {
	keys := slices.Sorted(maps.Keys(m))
	if len(keys) == 0 || rng.IntN(8) == 0 {
		words := []string{"identity", "tags", "properties", "subnet", "vmSize", "scaleSettings", "name", "location", "userAssignedIdentities", "type", "x", ""}
		m[words[rng.IntN(len(words))]] = strange[rng.IntN(len(strange))]
		return
	}
	k := keys[rng.IntN(len(keys))]
	if inner, ok := m[k].(map[string]any); ok && rng.IntN(4) > 0 {
		inner = maps.Clone(inner)
		m[k] = inner
		mutate(rng, inner)
		return
	}
	if rng.IntN(5) == 0 {
		delete(m, k)
		return
	}
	m[k] = strange[rng.IntN(len(strange))]
}

// TestMutations sends bodies that went wrong in one to three places. Whatever comes, the
// answer is a cluster in order or a fault that names the user's mistake, the store holds
// nothing half made, and what can be read can be written back without a change.
func TestMutations(t *testing.T) {
	t.Parallel()
	identity := `{"tags":{"a":"b"},"identity":{"type":"UserAssigned","userAssignedIdentities":{"` + uai + `a":{}}},`
	for name, whole := range map[string]string{
		"a cluster":   identity + body(`"vmSize":"STANDARD_D2_V2","vmPriority":"LowPriority","osType":"Linux","subnet":{"id":"` + subnet + `"},"enableNodePublicIp":false,"remoteLoginPortPublicAccess":"NotSpecified","userAccountCredentials":{"adminUserName":"u","adminUserPassword":"S3cret-pass"},`)[1:],
		"an instance": identity + instance(`,"subnet":{"id":"` + subnet + `"},"idleTimeBeforeShutdown":"PT20M","applicationSharingPolicy":"Personal","sshSettings":{"sshPublicAccess":"Enabled","adminPublicKey":"ssh-rsa AAAA"},"schedules":{"computeStartStop":[{"status":"Enabled"}]},"personalComputeInstanceSettings":{"assignedUser":{"objectId":"o","tenantId":"t"}}`)[1:],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mutations(t, whole)
		})
	}
}

func mutations(t *testing.T, whole string) {
	const cases = 3000
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	w := newWorld(t)
	w.mustPut("abc", whole)
	made, refused := 0, 0
	for i := range cases {
		m := parse(t, whole)
		for range 1 + rng.IntN(3) {
			mutate(rng, m)
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		name := "abc"
		if i%3 == 0 {
			name = "new-" + string(rune('a'+i%26)) + "z"
		}
		do := w.s.Put
		if i%2 == 0 {
			do = w.s.Patch
		}
		_, err = do(t.Context(), w.owner, computes.Request{Workspace: w.ws, Name: name, Body: m})
		if err != nil {
			refused++
			if k := fault.KindOf(err); k != fault.Invalid && k != fault.Unsupported && k != fault.NotFound && k != fault.Conflict {
				t.Fatalf("case %d: %s is answered %s: %v", i, text, k, err)
			}
			continue
		}
		made++
		c := w.cluster(name)
		if c.Min < 0 || c.Min > c.Max || c.IdleAfter < 0 || c.Size.VCPUs < 1 || c.Region == "" {
			t.Fatalf("case %d: %s made %+v", i, text, c)
		}
		read, err := json.Marshal(w.get(name))
		if err != nil {
			t.Fatalf("case %d: %s cannot be shown: %v", i, text, err)
		}
		if _, err := w.put(name, string(read)); err != nil || w.cluster(name).Generation != c.Generation {
			t.Fatalf("case %d: %s reads as %s, which is not what it was when written back: %v", i, text, read, err)
		}
	}
	if made < cases/20 || refused < cases/20 {
		t.Errorf("%d made and %d refused: the mutations are too tame or too wild to find anything", made, refused)
	}
}
