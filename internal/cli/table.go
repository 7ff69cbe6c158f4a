package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
	"github.com/muesli/termenv"
	"golang.org/x/term"
)

// column is one column of a table.
type column struct {
	title string
	cell  func(object) string
}

// col shows a field as it is.
func col(title, key string) column {
	return column{title, func(o object) string { return plainCell(o.get(key)) }}
}

func plainCell(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case map[string]string:
		pairs := make([]string, 0, len(v))
		for k, x := range v {
			pairs = append(pairs, k+"="+x)
		}
		sort.Strings(pairs)
		return strings.Join(pairs, " ")
	case []string:
		return strings.Join(v, " ")
	case []object:
		lines := make([]string, len(v))
		for i, o := range v {
			lines[i] = plainCell(o)
		}
		return strings.Join(lines, "; ")
	case []any:
		cells := make([]string, len(v))
		for i, e := range v {
			cells[i] = plainCell(e)
		}
		return strings.Join(cells, " ")
	case object:
		cells := make([]string, len(v))
		for i, f := range v {
			cells[i] = f.Key + "=" + plainCell(f.Value)
		}
		return strings.Join(cells, " ")
	}
	return scalar(v)
}

// look is how a stream may be written to: colours and width of a terminal, or
// neither.
type look struct {
	renderer *lipgloss.Renderer
	width    int // columns; 0: as wide as it comes
	tty      bool
}

func (a *app) lookOf(w io.Writer) look {
	l := look{renderer: lipgloss.NewRenderer(w)}
	// Set, never asked: asking a terminal means writing to it.
	l.renderer.SetColorProfile(termenv.Ascii)
	l.renderer.SetHasDarkBackground(true)
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return l
	}
	l.tty = a.getenv("TERM") != "dumb"
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		l.width = width
	}
	if l.tty && a.getenv("NO_COLOR") == "" {
		l.renderer.SetColorProfile(termenv.ANSI)
	}
	return l
}

// colourOf gives the words of states the colour that people expect.
var colourOf = map[string]lipgloss.Color{
	"Succeeded": "2", "Completed": "2", "Steady": "2", "idle": "2", "yes": "2",
	"Running": "6", "running": "6", "Resizing": "6", "Creating": "6", "Updating": "6", "Starting": "6", "Preparing": "6", "preparing": "6", "Finalizing": "6",
	"Queued": "3", "NotStarted": "3", "Canceled": "3", "CancelRequested": "3", "leaving": "3", "Deleting": "3",
	"Failed": "1", "unusable": "1", "preempted": "1",
}

// writeTable writes a heading and a line per row. What is too wide for the
// terminal is cut in its widest column.
func (a *app) writeTable(columns []column, rows []object) error {
	_, err := io.WriteString(a.Stdout, a.table(a.lookOf(a.Stdout), columns, rows))
	return err
}

const gap = 2 // spaces between columns

func (a *app) table(l look, columns []column, rows []object) string {
	cells := make([][]string, len(rows))
	widths := make([]int, len(columns))
	for j, c := range columns {
		widths[j] = lipgloss.Width(c.title)
	}
	for i, row := range rows {
		cells[i] = make([]string, len(columns))
		for j, c := range columns {
			cells[i][j] = oneLine(c.cell(row))
			widths[j] = max(widths[j], lipgloss.Width(cells[i][j]))
		}
	}
	shrink(widths, l.width)

	var b strings.Builder
	head := make([]string, len(columns))
	for j, c := range columns {
		head[j] = c.title
	}
	bold := l.renderer.NewStyle().Bold(true)
	writeRow(&b, head, widths, func(s string) string { return bold.Render(s) })
	if a.ml { // az draws a line, which scripts count on to cut it off
		for j, w := range widths {
			head[j] = strings.Repeat("-", w)
		}
		writeRow(&b, head, widths, func(s string) string { return s })
	}
	for _, row := range cells {
		writeRow(&b, row, widths, func(s string) string {
			if colour, ok := colourOf[s]; ok {
				return l.renderer.NewStyle().Foreground(colour).Render(s)
			}
			return s
		})
	}
	return b.String()
}

// oneLine also keeps what a job's author wrote from moving the cursor.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

func shrink(widths []int, width int) {
	if width <= 0 || len(widths) == 0 {
		return
	}
	for {
		total, widest := gap*(len(widths)-1), 0
		for j, w := range widths {
			total += w
			if w > widths[widest] {
				widest = j
			}
		}
		if total <= width || widths[widest] <= 8 {
			return
		}
		widths[widest] -= min(total-width, widths[widest]-8)
	}
}

func writeRow(b *strings.Builder, cells []string, widths []int, style func(string) string) {
	var line strings.Builder
	for j, cell := range cells {
		cell = ansi.Truncate(cell, widths[j], "…")
		line.WriteString(style(cell))
		if j < len(cells)-1 {
			line.WriteString(strings.Repeat(" ", widths[j]-lipgloss.Width(cell)+gap))
		}
	}
	b.WriteString(strings.TrimRight(line.String(), " "))
	b.WriteByte('\n')
}

// printTable shows what a query made, or one object: a list of objects as
// rows, one object as a line per field, or as the one row that az makes of it.
func (a *app) printTable(data any) error {
	switch v := data.(type) {
	case []object:
		return a.writeTable(a.keysOf(v), v)
	case []any:
		rows := make([]object, len(v))
		for i, e := range v {
			switch e := e.(type) {
			case object:
				rows[i] = e
			case []any:
				for j, x := range e {
					rows[i] = append(rows[i], field{fmt.Sprintf("Column%d", j+1), x})
				}
			default:
				rows[i] = object{{"Result", e}}
			}
		}
		return a.writeTable(a.keysOf(rows), rows)
	case object:
		if a.ml {
			return a.writeTable(a.keysOf([]object{v}), []object{v})
		}
		v = opened("", v)
		l := a.lookOf(a.Stdout)
		wide := 0
		for _, f := range v {
			wide = max(wide, len(f.Key))
		}
		bold := l.renderer.NewStyle().Bold(true)
		for _, f := range v {
			text := oneLine(plainCell(f.Value))
			if colour, ok := colourOf[text]; ok {
				text = l.renderer.NewStyle().Foreground(colour).Render(text)
			}
			if _, err := fmt.Fprintf(a.Stdout, "%s%s  %s\n", bold.Render(f.Key), strings.Repeat(" ", wide-len(f.Key)), text); err != nil {
				return err
			}
		}
		return nil
	}
	_, err := fmt.Fprintln(a.Stdout, plainCell(data))
	return err
}

// opened gives what is too long for a line a line for each field, by the path
// that --query knows it by.
func opened(prefix string, o object) object {
	const long = 100 // columns
	var out object
	for _, f := range o {
		key := prefix + f.Key
		inner, ok := f.Value.(object)
		if m, is := f.Value.(map[string]string); is {
			for _, k := range sortedKeys(m) {
				inner, ok = append(inner, field{k, m[k]}), true
			}
		}
		if ok && len(plainCell(inner)) > long {
			out = append(out, opened(key+".", inner)...)
			continue
		}
		out = append(out, field{key, f.Value})
	}
	return out
}

// keysOf makes a column of every key, in the order of their first appearance; with
// az's grammar as az does: of those with a value of its own somewhere, with a
// capital, and in order of the alphabet unless a query gave one.
func (a *app) keysOf(rows []object) []column {
	var columns []column
	seen := map[string]bool{}
	for _, row := range rows {
		for _, f := range row {
			if seen[f.Key] || a.ml && !azColumn(f) {
				continue
			}
			seen[f.Key] = true
			if a.ml {
				columns = append(columns, column{strings.ToUpper(f.Key[:1]) + f.Key[1:], func(o object) string { return azCell(o.get(f.Key)) }})
			} else {
				columns = append(columns, col(f.Key, f.Key))
			}
		}
	}
	if a.ml && a.query == "" {
		slices.SortFunc(columns, func(x, y column) int { return strings.Compare(x.title, y.title) })
	}
	return columns
}

// azColumn reports whether az shows a field in a table.
func azColumn(f field) bool {
	return f.Key != "" && azCell(f.Value) != "" && !slices.Contains([]string{"id", "type", "etag"}, f.Key)
}

func azCell(v any) string {
	switch v := v.(type) {
	case object, []object, map[string]string, map[string]any, []string, []any:
		return ""
	case bool:
		if v {
			return "True"
		}
		return "False"
	}
	return plainCell(v)
}
