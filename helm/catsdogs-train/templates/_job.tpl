{{- /* A Job's spec, for the Job and the CronJob. */ -}}
{{- define "catsdogs-train.jobSpec" -}}
backoffLimit: {{ mul .Values.job.backoffLimit .Values.workers }}
{{- if include "catsdogs-train.several" . }}
completionMode: Indexed
completions: {{ int64 .Values.workers }}
parallelism: {{ int64 .Values.workers }}
{{- end }}
{{- if not (kindIs "invalid" .Values.job.activeDeadlineSeconds) }}
activeDeadlineSeconds: {{ int64 .Values.job.activeDeadlineSeconds }}
{{- end }}
{{- if not (kindIs "invalid" .Values.job.ttlSecondsAfterFinished) }}
ttlSecondsAfterFinished: {{ int64 .Values.job.ttlSecondsAfterFinished }}
{{- end }}
{{- if or .Values.kueue.queueName (and .Values.job.suspend (not .Values.cronJob.schedule)) }}
suspend: true
{{- end }}
podFailurePolicy:
  # The first matching rule applies: a failure that no retry can cure ends the Job, even if a node was drained meanwhile.
  rules:
    - action: FailJob
      onExitCodes:
        containerName: catsdogs
        operator: In
        values: [2, 65, 77, 78]
    - action: Ignore
      onExitCodes:
        containerName: catsdogs
        operator: In
        values: [75]
    - action: Ignore
      onPodConditions:
        - type: DisruptionTarget
          status: "True"
template:
  {{- include "catsdogs-train.pod" (dict "root" . "test" false) | nindent 2 }}
{{- end }}

{{- /* The release's earlier Jobs in the cluster that have started. */ -}}
{{- define "catsdogs-train.earlier" -}}
{{- $jobs := list }}
{{- range (lookup "batch/v1" "Job" .Release.Namespace "").items }}
{{- $annotations := .metadata.annotations | default dict }}
{{- $ours := and
  (eq (get $annotations "meta.helm.sh/release-name") $.Release.Name)
  (eq (get (.metadata.labels | default dict) "app.kubernetes.io/name") (include "catsdogs-train.name" $))
}}
{{- $begun := and .status.startTime (not .metadata.deletionTimestamp) }}
{{- $current := and (not $.Values.cronJob.schedule) (eq .metadata.name (include "catsdogs-train.jobName" $)) }}
{{- if and $ours $begun (not $current) (hasKey $annotations "catsdogs-train/spec") }}
{{- $jobs = append $jobs . }}
{{- end }}
{{- end }}
{{- dict "jobs" $jobs | toJson }}
{{- end }}

{{- define "catsdogs-train.jobLabels" -}}
{{ include "catsdogs-train.labels" . }}
{{- with .Values.kueue.queueName }}
kueue.x-k8s.io/queue-name: {{ . }}
{{- end }}
{{- end }}

{{- /* Puts into `spec` what Kueue has made of the Job `live` since: it decides when the Job runs and what it tolerates,
and to write the old state over its decision would stop the run or be refused. */ -}}
{{- define "catsdogs-train.admitted" -}}
{{- if and .live (hasKey (.live.metadata.labels | default dict) "kueue.x-k8s.io/queue-name") -}}
{{- $_ := set .spec "suspend" .live.spec.suspend -}}
{{- with .live.spec.template.spec.tolerations -}}
{{- $_ := set $.spec.template.spec "tolerations" . -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* A Job's spec as JSON, for its annotation. An annotation is shown where a spec is not, so it has the values of the
job's own options, and of no other variable; nor has it the commands of other containers than the job's. `restored` takes
them from the Job itself. Arguments: root, spec. */ -}}
{{- define "catsdogs-train.redacted" -}}
{{- $own := .root.Files.Get "variables.json" | fromJsonArray -}}
{{- $spec := deepCopy .spec -}}
{{- range $kind := list "containers" "initContainers" -}}
{{- range get $spec.template.spec $kind | default list -}}
{{- if ne .name "catsdogs" -}}
{{- $_ := unset (unset . "command") "args" -}}
{{- end -}}
{{- range .env -}}
{{- if not (has .name $own) -}}
{{- $_ := unset . "value" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $spec -}}
{{- end }}

{{- /* Puts back into `spec` what `redacted` left out, from the Job `live` that has the annotation. */ -}}
{{- define "catsdogs-train.restored" -}}
{{- range $kind := list "containers" "initContainers" -}}
{{- $live := dict -}}
{{- range get $.live.spec.template.spec $kind | default list -}}
{{- $values := dict -}}
{{- range .env -}}
{{- if hasKey . "value" -}}
{{- $_ := set $values .name .value -}}
{{- end -}}
{{- end -}}
{{- $_ := set $live .name (dict "container" . "values" $values) -}}
{{- end -}}
{{- range $container := get $.spec.template.spec $kind | default list -}}
{{- if hasKey $live .name -}}
{{- $own := get $live .name -}}
{{- range list "command" "args" -}}
{{- if and (not (hasKey $container .)) (hasKey $own.container .) -}}
{{- $_ := set $container . (get $own.container .) -}}
{{- end -}}
{{- end -}}
{{- range .env -}}
{{- if and (not (hasKey . "value")) (not (hasKey . "valueFrom")) (hasKey $own.values .name) -}}
{{- $_ := set . "value" (get $own.values .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}
