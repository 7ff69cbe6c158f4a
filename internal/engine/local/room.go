package local

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ebb-compute/ebb/internal/engine"
	"github.com/ebb-compute/ebb/internal/fault"
)

// gpu is a line of nvidia-smi.
type gpu struct {
	index  int
	uuid   string
	memory float64 // GiB
}

// Capacity implements [engine.Driver].
func (e *Engine) Capacity(ctx context.Context) (engine.Capacity, error) {
	measure := e.Machine
	if measure == nil {
		measure = machine
	}
	vcpus, memory, err := measure()
	if err != nil {
		return engine.Capacity{}, fmt.Errorf("measure the machine: %w", err)
	}
	there, err := e.readGPUs(ctx)
	if err != nil {
		return engine.Capacity{}, err
	}
	return engine.Capacity{
		VCPUs: vcpus, MemoryGiB: memory, GPUs: len(there),
		Oversubscribe: !e.NoOversubscribe, GPURequired: e.GPURequired,
	}, nil
}

// room sees whether the machine has room for spec now, and says in r what the
// node gets. The caller holds the machine's lock.
func (e *Engine) room(ctx context.Context, spec engine.Spec, r *record) error {
	c, err := e.Capacity(ctx)
	if err != nil {
		return err
	}
	others, err := e.records()
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	if err := fits(spec, c, others); err != nil {
		return err
	}
	if r.Address, err = address(others); err != nil {
		return err
	}
	s := spec.Size
	if s.VCPUs > c.VCPUs || s.MemoryGiB > c.MemoryGiB {
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s has %d vCPUs and %g GiB of memory; the node runs with what this machine has: %d vCPUs and %.1f GiB.", s.Name, s.VCPUs, s.MemoryGiB, c.VCPUs, c.MemoryGiB))
	}
	if s.GPUs == 0 {
		return nil
	}
	if c.GPUs < s.GPUs {
		if e.GPURequired {
			return fault.New(fault.Exhausted, s.Name, "%s needs %s, and this machine has %d (local.gpu is \"required\").", s.Name, gpus(s.GPUs), c.GPUs)
		}
		r.Warnings = append(r.Warnings, fmt.Sprintf("%s has %s; the node runs with the %d that this machine has.", s.Name, gpus(s.GPUs), c.GPUs))
	}
	there, err := e.readGPUs(ctx)
	if err != nil {
		return err
	}
	taken := map[string]string{}
	for _, o := range others {
		for _, g := range o.GPUs {
			taken[g] = o.Node
		}
	}
	for _, g := range there {
		if len(r.GPUs) < s.GPUs && taken[g.uuid] == "" {
			r.GPUs = append(r.GPUs, g.uuid)
		}
	}
	if want := min(s.GPUs, len(there)); len(r.GPUs) < want {
		return fault.New(fault.Exhausted, s.Name, "%s needs %s; %d of this machine's %d are free.", s.Name, gpus(want), len(r.GPUs), len(there))
	}
	return nil
}

func gpus(n int) string {
	if n == 1 {
		return "1 GPU"
	}
	return fmt.Sprintf("%d GPUs", n)
}

// addresses from which nodes have one each: a machine answers to all of 127/8, and
// what comes from elsewhere never gets there.
var addresses = netip.MustParsePrefix("127.77.0.0/16")

// address is the first that no other node has.
func address(others []record) (string, error) {
	taken := map[string]bool{}
	for _, o := range others {
		taken[o.Address] = true
	}
	for a := addresses.Addr().Next(); addresses.Contains(a.Next()); a = a.Next() { // neither the first nor the last
		if !taken[a.String()] {
			return a.String(), nil
		}
	}
	return "", fault.New(fault.Exhausted, "", "All addresses of %s are taken by this machine's nodes.", addresses)
}

// fits counts vCPUs and memory where nodes may not be larger than the machine.
func fits(spec engine.Spec, c engine.Capacity, others []record) error {
	if c.Oversubscribe {
		return nil
	}
	s := spec.Size
	if s.VCPUs > c.VCPUs || s.MemoryGiB > c.MemoryGiB {
		return fault.New(fault.Invalid, s.Name, "%s has %d vCPUs and %g GiB of memory; this machine has %d vCPUs and %.1f GiB (local.oversubscribe is off).", s.Name, s.VCPUs, s.MemoryGiB, c.VCPUs, c.MemoryGiB)
	}
	vcpus, memory := c.VCPUs, c.MemoryGiB
	for _, o := range others {
		vcpus -= o.Size.VCPUs
		memory -= o.Size.MemoryGiB
	}
	if s.VCPUs > vcpus || s.MemoryGiB > memory {
		return fault.New(fault.Exhausted, s.Name, "%s has %d vCPUs and %g GiB of memory; %d and %.1f of this machine's are free (local.oversubscribe is off).", s.Name, s.VCPUs, s.MemoryGiB, max(vcpus, 0), max(memory, 0))
	}
	return nil
}

// machine returns how many processors this process may use and the memory in GiB.
func machine() (vcpus int, memory float64, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return 0, 0, err
	}
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		var kib float64
		if _, err := fmt.Sscanf(sc.Text(), "MemTotal: %g kB", &kib); err == nil {
			return set.Count(), kib / (1 << 20), nil
		}
	}
	return 0, 0, errors.New("/proc/meminfo has no MemTotal")
}

// readGPUs asks nvidia-smi, at most once a minute: it takes up to a second.
func (e *Engine) readGPUs(ctx context.Context) ([]gpu, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.asked.IsZero() && time.Since(e.asked) < time.Minute {
		return e.gpus, nil
	}
	name := e.NvidiaSMI
	if name == "" {
		name = "nvidia-smi"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		e.gpus, e.asked = nil, time.Now()
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		// A driver that does not answer must not look like a machine without
		// GPUs: their nodes would be taken for free.
		return nil, fault.New(fault.Unavailable, "", "%s does not answer, so the machine's GPUs are not known: %v.", path, err)
	}
	gpus, err := parseGPUs(string(out))
	if err != nil {
		return nil, fault.New(fault.Unavailable, "", "%s gave an answer that cannot be read: %v.", path, err)
	}
	e.gpus, e.asked = gpus, time.Now()
	return gpus, nil
}

// parseGPUs reads "index, uuid, MiB" lines.
func parseGPUs(out string) ([]gpu, error) {
	in := csv.NewReader(strings.NewReader(out))
	in.TrimLeadingSpace, in.FieldsPerRecord = true, 3
	rows, err := in.ReadAll()
	if err != nil {
		return nil, err
	}
	var gpus []gpu
	for _, row := range rows {
		index, err := strconv.Atoi(strings.TrimSpace(row[0]))
		if err != nil {
			return nil, err
		}
		uuid := strings.TrimSpace(row[1])
		if uuid == "" {
			return nil, fmt.Errorf("GPU %d has no UUID", index)
		}
		mib, _ := strconv.ParseFloat(strings.TrimSpace(row[2]), 64) // "[N/A]" on machines with one memory for all
		gpus = append(gpus, gpu{index, uuid, mib / 1024})
	}
	return gpus, nil
}
