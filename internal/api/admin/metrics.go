package admin

import (
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ebb-compute/ebb/internal/core/pool"
	"github.com/ebb-compute/ebb/internal/core/queue"
)

// Metrics counts what the server does, for Prometheus.
type Metrics struct {
	handler  http.Handler
	requests *prometheus.HistogramVec
}

// NewMetrics returns metrics of the clusters in a view, which is asked for at
// each scrape; commits counts those of the store.
func NewMetrics(version string, view func() *pool.View, commits func() int64) *Metrics {
	reg := prometheus.NewRegistry()
	m := &Metrics{requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ebb_http_request_duration_seconds", Help: "Time to answer, by route and status. Long polls and agents' connections are in it.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"route", "status"})}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "ebb_build_info", Help: "1, labelled with what was built.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	reg.MustRegister(m.requests, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &census{view})
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "ebb_store_commits_total", Help: "Commits since the data folder was made.",
	}, func() float64 { return float64(commits()) }))
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	return m
}

// Observe counts one answer.
func (m *Metrics) Observe(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
}

// census counts clusters, nodes and runs when it is asked.
type census struct{ view func() *pool.View }

var (
	clustersDesc = prometheus.NewDesc("ebb_clusters", "Clusters.", nil, nil)
	nodesDesc    = prometheus.NewDesc("ebb_nodes", "Nodes, by state.", []string{"state"}, nil)
	runsDesc     = prometheus.NewDesc("ebb_runs", "Runs that are not over, by state.", []string{"state"}, nil)
)

// Describe implements [prometheus.Collector].
func (c *census) Describe(ch chan<- *prometheus.Desc) {
	ch <- clustersDesc
	ch <- nodesDesc
	ch <- runsDesc
}

// Collect implements [prometheus.Collector]. States that nothing is in are 0:
// a series that comes and goes cannot be alarmed on.
func (c *census) Collect(ch chan<- prometheus.Metric) {
	v := c.view()
	nodes := map[string]int{"preparing": 0, "idle": 0, "running": 0, "leaving": 0, "unusable": 0, "preempted": 0}
	for n := range v.Nodes() {
		nodes[n.State.Azure()]++
	}
	runs := map[queue.State]int{queue.Queued: 0, queue.Starting: 0, queue.Preparing: 0, queue.Running: 0, queue.Finalizing: 0}
	for cluster := range v.Clusters() {
		for r := range v.RunsOf(cluster.ID) {
			if st, ok := v.RunStatus(r.ID); ok {
				runs[st.State]++
			}
		}
	}
	ch <- prometheus.MustNewConstMetric(clustersDesc, prometheus.GaugeValue, float64(v.ClusterCount()))
	for state, n := range nodes {
		ch <- prometheus.MustNewConstMetric(nodesDesc, prometheus.GaugeValue, float64(n), state)
	}
	for state, n := range runs {
		ch <- prometheus.MustNewConstMetric(runsDesc, prometheus.GaugeValue, float64(n), string(state))
	}
}
