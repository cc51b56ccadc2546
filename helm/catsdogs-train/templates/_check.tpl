{{- /* Values that contradict each other, a clear line for each. What one value may be is in values.schema.json. */ -}}
{{- define "catsdogs-train.check" -}}
{{- with .Values -}}
{{- $_ := required "bucket: name the bucket with the archive, --set bucket=…" .bucket -}}
{{- with .credentials -}}
{{- if and .existingSecret (or .accessKeyId .secretAccessKey .sessionToken) -}}
{{- fail "credentials: give existingSecret or keys, not both" -}}
{{- end -}}
{{- if ne (empty .accessKeyId) (empty .secretAccessKey) -}}
{{- fail "credentials: accessKeyId and secretAccessKey belong together, give both or none" -}}
{{- end -}}
{{- if and .sessionToken (not .accessKeyId) -}}
{{- fail "credentials.sessionToken: needs accessKeyId and secretAccessKey" -}}
{{- end -}}
{{- end -}}
{{- if and .serviceAccount.annotations (not .serviceAccount.create) -}}
{{- fail "serviceAccount.annotations: are those of the chart's own; set serviceAccount.create, or annotate yours" -}}
{{- end -}}
{{- if and .storage.caBundle.configMap .storage.caBundle.secret -}}
{{- fail "storage.caBundle: give configMap or secret, not both" -}}
{{- end -}}
{{- if and .volume.existingClaim (ne .volume.type "pvc") -}}
{{- fail (printf "volume.existingClaim: needs volume.type pvc, not %s" .volume.type) -}}
{{- end -}}
{{- $type := include "catsdogs-train.volumeType" $ -}}
{{- if and .volume.existingClaim (ne .volume.type $type) -}}
{{- fail "volume.existingClaim: several workers share it; set volume.accessMode=ReadWriteMany if it has that, or leave it empty" -}}
{{- end -}}
{{- if and .volume.keep (or .volume.existingClaim (ne $type "pvc")) -}}
{{- fail "volume.keep: is for the chart's own claim; there is none" -}}
{{- end -}}
{{- if and .cronJob.schedule .runId -}}
{{- fail "runId: the runs of a schedule need names of their own; leave it empty" -}}
{{- end -}}
{{- end -}}
{{- include "catsdogs-train.checkNames" . -}}
{{- end }}

{{- /* The API server would refuse a second volume of a name, and let a second variable win without a word. */ -}}
{{- define "catsdogs-train.checkNames" -}}
{{- $spec := (include "catsdogs-train.pod" (dict "root" . "test" false) | fromYaml).spec -}}
{{- $container := first $spec.containers -}}
{{- $lists := dict
  "extraEnv" (list "name" $container.env)
  "extraVolumes" (list "name" $spec.volumes)
  "extraVolumeMounts" (list "mountPath" $container.volumeMounts)
-}}
{{- range $value, $list := $lists -}}
{{- $seen := list -}}
{{- range last $list -}}
{{- $name := get . (first $list) -}}
{{- if has $name $seen -}}
{{- fail (printf "%s: %s is the chart's own, or there twice" $value $name) -}}
{{- end -}}
{{- $seen = append $seen $name -}}
{{- end -}}
{{- end -}}
{{- end }}
