package jobs

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ebb-compute/ebb/internal/fault"
)

// values of one run, for searches.
func sample(of subject) (value, bool) {
	v, ok := map[subject]value{
		{"metric", "loss"}:          {number: 0.5},
		{"metric", "nan"}:           {number: math.NaN()},
		{"metric", "a b"}:           {number: -1},
		{"param", "depth"}:          {text: "3"},
		{"param", "batch size"}:     {text: "16"},
		{"tag", "mlflow.user"}:      {text: "ann"},
		{"tag", "Who"}:              {text: "it's"},
		{"attribute", "status"}:     {text: "FINISHED"},
		{"attribute", "run_name"}:   {text: "big_run"},
		{"attribute", "start_time"}: {number: 1700000000000},
	}[of]
	return v, ok
}

func TestSearchHolds(t *testing.T) {
	t.Parallel()
	for filter, want := range map[string]bool{
		"":                           true,
		"metrics.loss < 0.6":         true,
		"metric.loss<.6":             true,
		"metrics.loss = 5e-1":        true,
		"metrics.loss != 0.5":        false,
		"metrics.loss >= 1":          false,
		"metrics.nan > 0":            false,
		"metrics.none != 1":          false,
		"metrics.none IS NULL":       true,
		"metrics.loss IS NOT NULL":   true,
		"metrics.`a b` <= -1":        true,
		`params."batch size" = "16"`: true,
		"params.depth = '3' and tags.mlflow.user = 'ann'": true,
		"params.depth = '3' AND tags.mlflow.user = 'bob'": false,
		"params.depth IN ('1', '3')":                      true,
		"params.depth not in ('1', '3')":                  false,
		"params.none NOT IN ('1')":                        false,
		`tags.Who = "it's"`:                               true,
		"tags.who IS NULL":                                true,
		"status = 'FINISHED'":                             true,
		"attributes.status LIKE 'FIN%'":                   true,
		"run_name LIKE 'big_run'":                         true,
		"run_name LIKE 'big\\_run'":                       false, // MLflow's pattern has no escapes
		"`Run Name` ILIKE 'B_G%'":                         true,
		"run_name LIKE '%%%x'":                            false,
		"start_time > 1699999999999":                      true,
	} {
		s, err := parseSearch(filter, runAttributes)
		if err != nil {
			t.Errorf("%s: %v", filter, err)
			continue
		}
		if got := s.match(sample); got != want {
			t.Errorf("%s is %v, want %v", filter, got, want)
		}
	}
}

func TestSearchRefuses(t *testing.T) {
	t.Parallel()
	for what, filter := range map[string]string{
		"a word alone":                        "metrics.loss",
		"no value":                            "metrics.loss >",
		"an or":                               "status = 'A' OR status = 'B'",
		"parentheses":                         "(status = 'A')",
		"no and":                              "status = 'A' status = 'B'",
		"an and at the end":                   "status = 'A' and",
		"an unknown kind":                     "datasets.name = 'x'",
		"an unknown attribute":                "colour = 'red'",
		"text compared as a number":           "status > 'A'",
		"a number compared as text":           "metrics.loss LIKE '0%'",
		"a metric that is compared with text": "metrics.loss = '0.5'",
		"a text without quotes":               "status = FINISHED",
		"a quote that is open":                "status = 'A",
		"an empty list":                       "status IN ()",
		"a list of numbers":                   "status IN (1, 2)",
		"a list that does not end":            "status IN ('a', 'b'",
		"a key that is missing":               "params. = 'a'",
		"an operator of another language":     "status == 'A'",
		"too much":                            strings.Repeat("a", maxFilter+1),
	} {
		if s, err := parseSearch(filter, runAttributes); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %.60q gives %v and %v, want a refusal", what, filter, s, err)
		}
	}
	for _, order := range []string{"", "metrics.", "colour", "status UP", "status DESC, run_id"} {
		if o, err := parseOrder(order, runAttributes); !errors.Is(err, fault.Invalid) {
			t.Errorf("order %q gives %v and %v, want a refusal", order, o, err)
		}
	}
}

func TestSearchOrders(t *testing.T) {
	t.Parallel()
	nan := value{number: math.NaN()}
	for what, c := range map[string]struct {
		order      string
		a, b       value
		hasA, hasB bool
		want       int
	}{
		"less comes first":                {"metrics.x", value{number: 1}, value{number: 2}, true, true, -1},
		"and last, down":                  {"metrics.x DESC", value{number: 1}, value{number: 2}, true, true, 1},
		"what is missing comes last":      {"metrics.x", value{}, value{number: 2}, false, true, 1},
		"also down":                       {"metrics.x desc", value{}, value{number: 2}, false, true, 1},
		"what is no number comes last":    {"metrics.x ASC", nan, value{number: 2}, true, true, 1},
		"text is ordered as text":         {"params.`a b`", value{text: "10"}, value{text: "9"}, true, true, -1},
		"two that are missing are equals": {"tags.t", value{}, value{}, false, false, 0},
	} {
		o, err := parseOrder(c.order, runAttributes)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got := o.compare(c.a, c.hasA, c.b, c.hasB); got != c.want {
			t.Errorf("%s: compare gives %d, want %d", what, got, c.want)
		}
	}
}

// checkSearch is what must hold for any text: it is refused as the user's
// mistake, or it can be asked of a run.
func checkSearch(t *testing.T, text string) {
	t.Helper()
	s, err := parseSearch(text, runAttributes)
	if err != nil && !errors.Is(err, fault.Invalid) {
		t.Errorf("%q: %v is no refusal", text, err)
	}
	s.match(sample)
	if _, err := parseOrder(text, runAttributes); err != nil && !errors.Is(err, fault.Invalid) {
		t.Errorf("order %q: %v is no refusal", text, err)
	}
}

var searchWords = []string{
	"metrics.", "loss", "params.", "tags.", "attributes.", "status", "`", `"`, "'", "a b", " ", " ", " AND ", "IN", "NOT", "(", ")", ",",
	"LIKE", "ILIKE", "IS", "NULL", "=", "!=", "<", ">=", "!", "0.5", "-1e9", "%", "_", ".", "ü", "\xff", "\x00", "DESC",
}

func TestSearchTakesAnything(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(4, 30))
	for range 5000 {
		var b strings.Builder
		for range r.IntN(14) {
			b.WriteString(searchWords[r.IntN(len(searchWords))])
		}
		checkSearch(t, b.String())
	}
}

func FuzzSearch(f *testing.F) {
	for _, s := range []string{"metrics.loss < 0.6 AND params.`a b` IN ('1', '2')", "status LIKE '%x_'", "tags.x IS NOT NULL"} {
		f.Add(s)
	}
	f.Fuzz(checkSearch)
}

// A pattern must not take longer than the product of the lengths.
func TestLikeIsFast(t *testing.T) {
	t.Parallel()
	text, pattern := strings.Repeat("a", 1000), strings.Repeat("%a", 500)+"b"
	if like(text, pattern) || !utf8.ValidString(pattern) {
		t.Error("a text without b is like one that ends in it")
	}
}
