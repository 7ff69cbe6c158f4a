package survival_test

import "strings"

// assets are what has names and versions, and datastores, as SDK v2 speaks of them.
func (s *scene) assets() {
	s.t.Helper()
	for kind, props := range map[string]string{
		"environments": `"image":"python:3.11","condaFile":"dependencies:\n- python=3.11\n- pip:\n  - six\n"`,
		"data":         `"dataUri":"azureml://datastores/workspaceblobstore/paths/d/","dataType":"uri_folder"`,
		"models":       `"modelUri":"azureml://datastores/workspaceblobstore/paths/m","modelType":"custom_model","stage":"Development","flavors":{"f":{"data":{"a":"b"}}}`,
		"components":   `"componentSpec":{"type":"command","command":"echo","inputs":{"x":{"type":"number","default":"1"}}}`,
	} {
		at := "{WS}/" + kind + "/a{N}"
		s.ask("PUT", at+"/versions/1"+version, `{"properties":{`+props+`,"description":"d","tags":{"a":"b"},"properties":{"p":"q"},"isAnonymous":false,"isArchived":false}}`, nil)
		s.add(200, "GET", at+"/versions/1"+version, "")
		s.add(200, "GET", at+version, "")
		s.add(200, "PUT", at+version, `{"properties":{"dataType":"uri_folder","description":"all of them","tags":{"c":"d"},"isArchived":false}}`)
		s.add(200, "GET", "{WS}/"+kind+version+"&listViewType=All", "")
		s.add(200, "GET", at+"/versions"+version+"&$orderBy=createdtime%20desc&$top=1&tags=a=b", "")
		s.add(204, "DELETE", at+"/versions/gone"+version, "")
	}
	var open struct {
		Ref struct {
			URI        string `json:"blobUri"`
			Credential struct {
				URI string `json:"sasUri"`
			}
		} `json:"blobReferenceForConsumption"`
	}
	s.ask("POST", "{WS}/codes/c{N}/versions/1/startPendingUpload"+version, `{"pendingUploadType":"TemporaryBlobReference"}`, &open)
	box, signature, _ := strings.Cut(s.path(open.Ref.Credential.URI), "?")
	s.putBlob(box+"/src/train.py?"+signature, []field{{"x-ms-version", "2024-05-04"}, {"x-ms-blob-type", "BlockBlob"}, {"Content-Type", "application/octet-stream"}})
	s.ask("PUT", "{WS}/codes/c{N}/versions/1"+version, `{"properties":{"codeUri":"`+open.Ref.URI+`/src","isAnonymous":true,"properties":{"hash_sha256":"abc","hash_version":"202208"}}}`, nil)
	s.add(200, "GET", "{WS}/codes/x/versions"+version+"&hash=abc&hashVersion=202208", "")
	s.add(201, "PUT", "{WS}/jobs/coded-{N}"+version, `{"properties":{"jobType":"Command","command":"python train.py","computeId":"{WS}/computes/cpu-{N}x","codeId":"{WS}/codes/c{N}/versions/1","environmentId":"azureml:a{N}@latest"}}`)
	s.add(200, "GET", "{WS}/datastores"+version+"&isDefault=true&count=30&names=a,b", "")
	s.add(200, "GET", "{WS}/datastores/workspaceblobstore"+version, "")
	s.add(200, "POST", "{WS}/datastores/workspaceblobstore/listSecrets"+version, `{"expirableSecret":true,"expireAfterHours":1}`)
	s.ask("PUT", "{WS}/datastores/d{N}"+version, `{"properties":{"datastoreType":"AzureDataLakeGen2","accountName":"a","filesystem":"f","endpoint":"core.windows.net","protocol":"https","tags":{"a":"b"},
	 "credentials":{"credentialsType":"ServicePrincipal","tenantId":"t","clientId":"c","authorityUrl":"u","resourceUrl":"r","secrets":{"secretsType":"ServicePrincipal","clientSecret":"hush"}}}}`, nil)
	s.add(200, "POST", "{WS}/datastores/d{N}/listSecrets"+version, "")
}
