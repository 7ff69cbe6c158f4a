package image

import (
	"regexp"
	"strconv"
	"strings"
)

// What builds say of a failure: BuildKit of 20.10 the step, later ones the line;
// buildah (Podman) the step.
var (
	parseLine  = regexp.MustCompile(`dockerfile parse error (?:on )?line (\d+)`)
	solveLine  = regexp.MustCompile(`(?m)^\S*Dockerfile\S*:(\d+)\s*$`)
	failedText = regexp.MustCompile(`(?m)^ > \[[^\]]*\] (.*):\s*$`)
	numbered   = regexp.MustCompile(`(?m)^#(\d+) (\d+\.\d+ )?(.*)$`)
	buildah    = regexp.MustCompile(`(?m)^Error: .*building at STEP "(.*)": (.*)$`)
)

// failedLine is the line of the Dockerfile that a build's log names; 0: none.
func failedLine(log string) int {
	for _, r := range []*regexp.Regexp{parseLine, solveLine} {
		if all := r.FindAllStringSubmatch(log, -1); all != nil {
			n, _ := strconv.Atoi(all[len(all)-1][1])
			return n
		}
	}
	return 0
}

// failedStep is the text of the step that a build's log says has failed.
func failedStep(log string) string {
	if m := buildah.FindStringSubmatch(log); m != nil {
		return m[1]
	}
	all := failedText.FindAllStringSubmatch(log, -1)
	if all == nil {
		return ""
	}
	return all[len(all)-1][1]
}

// lastLines is how many lines of a failed step's output a message repeats.
const lastLines = 6

// ending is what the failed step said last, as a sentence that begins with a space.
func ending(log string) string {
	full := ""
	if strings.Contains(strings.ToLower(log), "no space left on device") {
		full = " The disk of the node's engine is full."
	}
	all := numbered.FindAllStringSubmatch(log, -1)
	failed, why := "", ""
	for _, m := range all { // what a command prints has a time before it
		if rest, ok := strings.CutPrefix(m[3], "ERROR: "); ok && m[2] == "" {
			failed, why = m[1], rest
		}
	}
	if failed == "" {
		lines := strings.Split(strings.TrimSpace(log), "\n")
		return full + " The build said: " + strings.TrimSpace(lines[len(lines)-1])
	}
	var said []string
	for _, m := range all {
		if m[1] == failed && m[2] != "" && strings.TrimSpace(m[3]) != "" {
			said = append(said, m[3])
		}
	}
	words := full + " The build said: " + why
	if len(said) > 0 {
		words += "\n" + strings.Join(said[max(0, len(said)-lastLines):], "\n")
	}
	return words
}

// plain is a build's log without what BuildKit puts before each line.
func plain(log string) string { return numbered.ReplaceAllString(log, "$3") }
