package cli

import (
	"context"
	"strings"

	"github.com/ebb-compute/ebb/client"
)

// modes are ARM's words for how data comes and goes, in az ml's.
var modes = map[string]string{
	"readonlymount": "ro_mount", "download": "download", "direct": "direct", "evalmount": "eval_mount", "evaldownload": "eval_download",
	"readwritemount": "rw_mount", "upload": "upload",
}

func inputsShape(inputs map[string]client.Input) object {
	var o object
	for _, name := range sortedKeys(inputs) {
		in := inputs[name]
		if in.Type == "literal" {
			o = append(o, field{name, in.Value})
			continue
		}
		one := object{}
		one.add("mode", modes[strings.ToLower(in.Mode)])
		one.add("path", dataRef(in.URI))
		one.add("type", in.Type)
		o = append(o, field{name, one})
	}
	return o
}

// dataRef writes the id of data as az ml does; URIs stay.
func dataRef(uri string) string {
	if strings.HasPrefix(uri, "/") {
		return reference(uri)
	}
	return uri
}

func outputsShape(outputs map[string]client.Output) object {
	var o object
	for _, name := range sortedKeys(outputs) {
		out := outputs[name]
		one := object{}
		one.add("mode", modes[strings.ToLower(out.Mode)])
		one.add("path", out.URI)
		one.add("type", out.Type)
		one.add("name", out.AssetName)
		one.add("version", out.AssetVersion)
		o = append(o, field{name, one})
	}
	return o
}

func distributionShape(d map[string]any) object {
	kind, _ := d["distributionType"].(string)
	if kind == "" {
		return nil
	}
	o := object{{"type", strings.ToLower(kind)}}
	for _, f := range []struct{ arm, az string }{
		{"processCountPerInstance", "process_count_per_instance"}, {"parameterServerCount", "parameter_server_count"}, {"workerCount", "worker_count"},
	} {
		o.add(f.az, d[f.arm])
	}
	return o
}

func servicesShape(services map[string]client.Service) object {
	o := object{}
	for _, name := range sortedKeys(services) {
		s := services[name]
		one := object{{"endpoint", s.Endpoint}, {"type", s.Type}}
		one.add("status", s.Status)
		o = append(o, field{name, one})
	}
	return o
}

// manyMetrics are more than anybody reads in one answer.
const manyMetrics = 200

// metricsShape is the last value of each metric of a job.
func metricsShape(ctx context.Context, c *client.Client, name string) (object, error) {
	var o object
	for metric, err := range c.Jobs().MetricNames(ctx, name) {
		if client.IsNotFound(err) {
			return nil, nil // run history has not heard of the job
		}
		if err != nil {
			return nil, err
		}
		var last any
		for point, err := range c.Jobs().Metric(ctx, name, metric) {
			if err != nil {
				return nil, err
			}
			if value, ok := point.Data[metric]; ok {
				last = value
			} else if len(point.Data) > 0 {
				last = ordered(point.Data, nil)
			}
		}
		if o = append(o, field{metric, last}); len(o) == manyMetrics {
			break
		}
	}
	return o, nil
}
