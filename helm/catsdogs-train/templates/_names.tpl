{{- define "catsdogs-train.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- /* At most 52 characters: the hash of a Job, and the time stamp that a CronJob appends, make them 63. A worker's host
is called like the Job and its index. */ -}}
{{- define "catsdogs-train.fullname" -}}
{{- $name := include "catsdogs-train.name" . -}}
{{- $both := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{ .Values.fullnameOverride | default $both | replace "." "-" | trunc (ternary 52 48 (include "catsdogs-train.several" . | empty)) | trimSuffix "-" }}
{{- end }}

{{- /* Non-empty if a run has several workers. */ -}}
{{- define "catsdogs-train.several" -}}
{{- if gt (int64 .Values.workers) 1 }}true{{ end -}}
{{- end }}

{{- /* The same for this run and the earlier ones, which may still go on. */ -}}
{{- define "catsdogs-train.anySeveral" -}}
{{- include "catsdogs-train.several" . }}
{{- range (include "catsdogs-train.earlier" . | fromJson).jobs }}
{{- if eq (.spec.completionMode | default "") "Indexed" }}true{{ end -}}
{{- end }}
{{- end }}

{{- define "catsdogs-train.serviceAccountName" -}}
{{- $default := ternary (include "catsdogs-train.fullname" .) "default" .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default $default }}
{{- end }}

{{- define "catsdogs-train.secretName" -}}
{{ .Values.credentials.existingSecret | default (include "catsdogs-train.fullname" .) }}
{{- end }}

{{- /* The same for any number of workers. */ -}}
{{- define "catsdogs-train.workerKeyName" -}}
{{- $name := include "catsdogs-train.fullname" . | trunc 48 | trimSuffix "-" -}}
{{ .Values.workerKey.existingSecret | default (printf "%s-worker-key" $name) }}
{{- end }}

{{- /* A claim's class and access mode are immutable, so other values make another claim. */ -}}
{{- define "catsdogs-train.claimName" -}}
{{- $fixed := list .Values.volume.storageClass .Values.volume.accessMode | toJson | sha256sum | trunc 6 -}}
{{ .Values.volume.existingClaim | default (printf "%s-%s" (include "catsdogs-train.fullname" .) $fixed) }}
{{- end }}

{{- /* Neither can what a Job runs, so its name follows from that: the same values are the same Job, others are
another one. The template has none of the labels that change with each release. */ -}}
{{- define "catsdogs-train.jobName" -}}
{{- $spec := include "catsdogs-train.jobSpec" . | fromYaml -}}
{{- $outside := list
  .Values.credentials.accessKeyId .Values.credentials.secretAccessKey .Values.credentials.sessionToken
  .Values.serviceAccount.annotations .Values.kueue.queueName
-}}
{{- $hash := list $spec.template $spec.podFailurePolicy $outside | toJson | sha256sum | trunc 10 -}}
{{ include "catsdogs-train.fullname" . }}-{{ $hash }}
{{- end }}

{{- define "catsdogs-train.runId" -}}
{{ .Values.runId | default (include "catsdogs-train.jobName" .) }}
{{- end }}

{{- define "catsdogs-train.selectorLabels" -}}
app.kubernetes.io/name: {{ include "catsdogs-train.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "catsdogs-train.labels" -}}
{{ include "catsdogs-train.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}
