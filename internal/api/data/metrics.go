package data

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/ebb-compute/ebb/internal/api/arm"
	"github.com/ebb-compute/ebb/internal/app/jobs"
	"github.com/ebb-compute/ebb/internal/fault"
)

func (h *server) metrics(reg arm.Registrar) {
	run := "/metric/v2.0" + workspace + "/runs/{run}"
	reg.Handle("POST "+run+"/batch", h.in(h.postMetrics))
	reg.Handle("POST "+run+"/list", h.in(h.listMetrics))
	reg.Handle("POST "+run+"/full", h.in(h.getMetric))
	arm.NotBuilt(reg, "/metric/v1.0", "Metrics in their first form (v1.0)")
}

func (h *server) postMetrics(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct {
		Values []struct {
			Name       string
			Columns    map[string]string
			Properties json.RawMessage
			Value      []json.RawMessage
		}
	}
	if err := readLarge(r, &in); err != nil {
		return 0, nil, err
	}
	batches := make([]jobs.Batch, len(in.Values))
	for i, v := range in.Values {
		batches[i] = jobs.Batch{Metric: jobs.Metric{Name: v.Name, Columns: v.Columns, Properties: v.Properties}, Values: v.Value}
	}
	if err := h.Jobs.Append(r.Context(), arm.Caller(r.Context()), r.w, r.PathValue("run"), batches); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"errors": []any{}}, nil
}

func (h *server) listMetrics(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct{ ContinuationToken string }
	if err := readOptional(r, &in); err != nil {
		return 0, nil, err
	}
	list, next, err := h.Jobs.Metrics(r.Context(), r.w, r.PathValue("run"), in.ContinuationToken)
	if err != nil {
		return 0, nil, err
	}
	value := make([]object, len(list))
	for i, m := range list {
		value[i] = object{"metricKey": object{"name": m.Name, "labels": object{}}, "columns": none(m.Columns), "properties": raw(m.Properties)}
	}
	return http.StatusOK, page(value, next), nil
}

func (h *server) getMetric(_ http.ResponseWriter, r *request) (int, any, error) {
	var in struct {
		MetricName, ContinuationToken string
		StartTime, EndTime            *string
	}
	if err := arm.ReadJSON(r.Request, &in); err != nil {
		return 0, nil, err
	}
	var bounds [2]time.Time
	for i, s := range []*string{in.StartTime, in.EndTime} {
		if s == nil {
			continue
		}
		var err error
		if bounds[i], err = time.Parse(time.RFC3339Nano, *s); err != nil {
			return 0, nil, fault.Coded(fault.Invalid, "InvalidTime", "startTime", "%.60q is not a time as RFC 3339 writes it.", *s)
		}
	}
	b, next, err := h.Jobs.Values(r.Context(), r.w, r.PathValue("run"), in.MetricName, in.ContinuationToken, bounds[0], bounds[1])
	if err != nil {
		return 0, nil, err
	}
	j, err := h.run(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"dataContainerId": j.Container(), "name": b.Name, "columns": none(b.Columns), "value": b.Values,
		"properties": raw(b.Properties), "continuationToken": nullable(next)}, nil
}
