{{- /* Rejects contradictory values, with one line each. values.schema.json constrains each single value. */ -}}
{{- define "catsdogs-train.check" -}}
{{- with .Values -}}
{{- $_ := required "bucket: required; name the bucket that holds the archive, --set bucket=NAME" .bucket -}}
{{- with .credentials -}}
{{- if and .existingSecret (or .accessKeyId .secretAccessKey .sessionToken) -}}
{{- fail "credentials: set existingSecret or the keys, not both" -}}
{{- end -}}
{{- if ne (empty .accessKeyId) (empty .secretAccessKey) -}}
{{- fail "credentials: set both accessKeyId and secretAccessKey, or neither" -}}
{{- end -}}
{{- if and .sessionToken (not .accessKeyId) -}}
{{- fail "credentials.sessionToken: requires accessKeyId and secretAccessKey" -}}
{{- end -}}
{{- end -}}
{{- if and .serviceAccount.annotations (not .serviceAccount.create) -}}
{{- fail "serviceAccount.annotations: require serviceAccount.create; annotate an existing account yourself" -}}
{{- end -}}
{{- range $label, $_ := include "catsdogs-train.selectorLabels" $ | fromYaml -}}
{{- if hasKey $.Values.podLabels $label -}}
{{- fail (printf "podLabels: %s is the chart's own label, by which its NetworkPolicy and Service select the pods; choose another" $label) -}}
{{- end -}}
{{- end -}}
{{- if and .storage.caBundle.configMap .storage.caBundle.secret -}}
{{- fail "storage.caBundle: set configMap or secret, not both" -}}
{{- end -}}
{{- if and .volume.existingClaim (ne .volume.type "pvc") -}}
{{- fail (printf "volume.existingClaim: requires volume.type pvc, not %s" .volume.type) -}}
{{- end -}}
{{- $type := include "catsdogs-train.volumeType" $ -}}
{{- if and .volume.existingClaim (ne .volume.type $type) -}}
{{- fail "volume.existingClaim: workers would share the claim; set volume.accessMode=ReadWriteMany if it allows that, or leave it empty" -}}
{{- end -}}
{{- if and .volume.keep (or .volume.existingClaim (ne $type "pvc")) -}}
{{- fail "volume.keep: applies only to a claim that the chart creates" -}}
{{- end -}}
{{- if and .cronJob.schedule .runId -}}
{{- fail "runId: each scheduled run needs its own name; leave it empty" -}}
{{- end -}}
{{- end -}}
{{- include "catsdogs-train.checkNames" . -}}
{{- end }}

{{- /* The API server rejects a second volume with the same name, but silently lets a second variable win. */ -}}
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
{{- fail (printf "%s: %s is already set by the chart, or is listed twice" $value $name) -}}
{{- end -}}
{{- $seen = append $seen $name -}}
{{- end -}}
{{- end -}}
{{- end }}
