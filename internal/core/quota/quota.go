// Package quota knows the sizes of machines, their families, and the arithmetic of
// limits and use: what Azure calls usages and quotas. It refuses nothing by
// itself; it says what is used and what a limit may be.
//
// Start at [Lookup] for sizes and [Usages] for the ledger.
package quota

import (
	_ "embed" // sizes.csv
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/ebb-compute/ebb/internal/core/fleet"
	"github.com/ebb-compute/ebb/internal/core/near"
)

// Machine is one size: what it has, what it costs, whether Azure still offers it.
type Machine struct {
	Name        string // Azure's spelling, as Standard_DS3_v2
	Family      string // as standardDSv2Family: the ledger it is counted in
	VCPUs       int
	MemoryGiB   float64
	GPUs        int
	GPUType     string // as V100; empty: none
	PremiumIO   bool
	LowPriority bool    // may be had at low priority
	DiskMB      int     // temporary disk; 0: none, or not known
	USDPerHour  float64 // list price, Linux, dedicated; 0: not known
	Retired     string  // day Azure retired it, as 2023-08-31; empty: offered
}

// Canonical returns the name as Azure answers it: in upper case.
func (m Machine) Canonical() string { return strings.ToUpper(m.Name) }

// Size returns what the planner needs of it.
func (m Machine) Size() fleet.Size {
	return fleet.Size{Name: m.Canonical(), Family: m.Family, VCPUs: m.VCPUs, MemoryGiB: m.MemoryGiB, GPUs: m.GPUs}
}

// Warning is one sentence for whoever asks for a retired size; empty otherwise.
func (m Machine) Warning() string {
	if m.Retired == "" {
		return ""
	}
	instead := "STANDARD_DS3_V2"
	if m.GPUs > 0 {
		instead = "STANDARD_NC4AS_T4_V3"
	}
	return fmt.Sprintf("Azure retired the size %s on %s: it works here, but on Azure choose another, for example %s.", m.Canonical(), m.Retired, instead)
}

//go:embed sizes.csv
var sizesCSV string

// table is sizes.csv, parsed when first asked for: most processes (shims,
// agents, the CLI) never ask.
type table struct {
	all      []Machine
	byName   map[string]int // upper-case name
	families []string
}

var sizes = sync.OnceValue(func() table {
	t := table{byName: map[string]int{}}
	for i, line := range strings.Split(strings.TrimSpace(sizesCSV), "\n") {
		if i == 0 {
			continue // headings
		}
		m := parse(strings.Split(line, ","))
		t.byName[m.Canonical()] = len(t.all)
		t.all = append(t.all, m)
		t.families = append(t.families, m.Family)
	}
	slices.SortFunc(t.families, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	t.families = slices.Compact(t.families)
	return t
})

// parse panics on a bad line: the table is ours, and a test reads all of it.
func parse(f []string) Machine {
	if len(f) != 11 {
		panic(fmt.Sprintf("quota: sizes.csv: %d fields in %q", len(f), f))
	}
	number := func(s string) float64 {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			panic(fmt.Sprintf("quota: sizes.csv: %v in %q", err, f))
		}
		return n
	}
	return Machine{
		Name: f[0], Family: f[1], VCPUs: int(number(f[2])), MemoryGiB: number(f[3]), GPUs: int(number(f[4])), GPUType: f[5],
		PremiumIO: f[6] == "1", LowPriority: f[7] == "1", DiskMB: int(number(f[8])), USDPerHour: number(f[9]), Retired: f[10],
	}
}

// Lookup finds a size by name, in any case.
func Lookup(name string) (Machine, bool) {
	t := sizes()
	i, ok := t.byName[strings.ToUpper(strings.TrimSpace(name))]
	if !ok {
		return Machine{}, false
	}
	return t.all[i], true
}

// Sizes returns every size on offer, by name; retired ones are left out, though
// [Lookup] still knows them.
func Sizes() []Machine {
	return slices.DeleteFunc(slices.Clone(sizes().all), func(m Machine) bool { return m.Retired != "" })
}

// SupportedList is the list in the error for an unknown size, as Azure words it.
func SupportedList() string {
	var names []string
	for _, m := range Sizes() {
		names = append(names, m.Canonical())
	}
	return strings.Join(names, ",")
}

// guess is from how many differences on a guess is worth nothing.
const guess = 4

// Near returns the n offered sizes whose names are nearest to what was typed, and
// the first of them alone where it is near enough to be meant.
func Near(typed string, n int) (meant string, names []string) {
	const prefix = "STANDARD_"
	typed = strings.ToUpper(near.Cut(strings.TrimSpace(typed)))
	for _, m := range Sizes() {
		names = append(names, m.Canonical())
	}
	if !strings.HasPrefix(typed, prefix[:4]) { // "D2_v3": what every name begins with is often left out
		typed = prefix + typed
	}
	names = near.Names(typed, names, n)
	if near.Edits(typed, names[0]) < guess {
		meant = names[0]
	}
	return meant, names
}

// Families returns the name of every family, in order.
func Families() []string { return slices.Clone(sizes().families) }

// Family finds a family by its name (standardDSv2Family) or by the text that usages and quotas
// have in their ids (Standard_DSv2_Family_Cluster_Dedicated_vCPUs), in any case.
func Family(s string) (string, bool) {
	for _, f := range sizes().families {
		if strings.EqualFold(f, s) || strings.EqualFold(idPart(Text(f, false)), s) || strings.EqualFold(Text(f, false), s) {
			return f, true
		}
	}
	return "", false
}

// Text returns what a family is called for people, as "Standard DSv2 Family Cluster Dedicated vCPUs".
func Text(family string, lowPriority bool) string {
	short := family
	if len(short) > len("standard") && strings.EqualFold(short[:len("standard")], "standard") {
		short = strings.TrimSpace(short[len("standard"):])
	}
	short = strings.TrimSpace(strings.TrimSuffix(short, "Family"))
	if lowPriority {
		return "Standard " + short + " Family Cluster LowPriority vCPUs"
	}
	return "Standard " + short + " Family Cluster Dedicated vCPUs"
}

// idPart is a text as it stands in an id.
func idPart(text string) string { return strings.ReplaceAll(text, " ", "_") }
