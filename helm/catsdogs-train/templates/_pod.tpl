{{- /* The pod of a run, as metadata and spec; with `test` one that only looks whether a run would find all it needs,
without the GPUs and the volume, which a run may hold at that moment. */ -}}
{{- define "catsdogs-train.pod" -}}
{{- $root := .root -}}
{{- $test := .test -}}
{{- $several := and (include "catsdogs-train.several" $root) (not $test) -}}
{{- $gpus := ternary 0 (int64 $root.Values.gpu.count) $test -}}
{{- with $root.Values -}}
metadata:
  labels:
    {{- include "catsdogs-train.selectorLabels" $root | nindent 4 }}
    {{- with .podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- if or .podAnnotations .rerun }}
  annotations:
    {{- with .rerun }}
    catsdogs-train/rerun: {{ include "catsdogs-train.text" . | quote }}
    {{- end }}
    {{- with .podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: {{ int64 .job.terminationGracePeriodSeconds }}
  serviceAccountName: {{ include "catsdogs-train.serviceAccountName" $root }}
  automountServiceAccountToken: {{ .serviceAccount.automountToken }}
  # Otherwise a Service named catsdogs would set variables that look like the command's.
  enableServiceLinks: false
  {{- with .imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with .priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with concat (ternary .gpu.tolerations list (gt (int .gpu.count) 0)) .tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- else }}
  {{- if $several }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "catsdogs-train.selectorLabels" $root | nindent 10 }}
      # Counts only pods of the same Job.
      matchLabelKeys: [batch.kubernetes.io/controller-uid]
  {{- end }}
  {{- end }}
  {{- if $several }}
  # With the host name that the Job controller gives each of its pods, an entry in the DNS.
  subdomain: {{ include "catsdogs-train.fullname" $root }}
  {{- end }}
  securityContext:
    {{- toYaml .podSecurityContext | nindent 4 }}
  {{- with .initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: catsdogs
      image: {{ include "catsdogs-train.image" $root | quote }}
      imagePullPolicy: {{ .image.pullPolicy }}
      {{- if and .diagnosticMode (not $test) }}
      # A container's first process ignores SIGTERM unless it installs a handler.
      command: [sh, -c, "trap exit TERM; sleep infinity & wait"]
      {{- else }}
      args:
        {{- toYaml (prepend .extraArgs (ternary "plan" "run" $test)) | nindent 8 }}
      {{- end }}
      env:
        {{- $runId := .runId }}
        {{- if $test }}{{ $runId = include "catsdogs-train.runId" $root }}{{ end }}
        {{- if $several }}
        {{- include "catsdogs-train.workers" $root | nindent 8 }}
        {{- end }}
        {{- include "catsdogs-train.env" (dict "root" $root "gpus" $gpus "runId" $runId) | nindent 8 }}
        {{- with .extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      resources:
        {{- include "catsdogs-train.resources" (dict "root" $root "gpus" $gpus "test" $test) | nindent 8 }}
      terminationMessagePolicy: FallbackToLogsOnError
      securityContext:
        {{- toYaml .securityContext | nindent 8 }}
      volumeMounts:
        - name: data
          mountPath: /data
        - name: tmp
          mountPath: /tmp
        - name: shm
          mountPath: /dev/shm
        {{- if or .storage.caBundle.configMap .storage.caBundle.secret }}
        - name: ca
          mountPath: /etc/catsdogs/ca
          readOnly: true
        {{- end }}
        {{- if $several }}
        - name: worker-key
          mountPath: /etc/catsdogs/worker-key
          readOnly: true
        {{- end }}
        {{- with .extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: data
      {{- $type := ternary "emptyDir" (include "catsdogs-train.volumeType" $root) $test }}
      {{- include "catsdogs-train.volume" (dict "root" $root "type" $type) | nindent 6 }}
    # For the caches of libraries; the root file system is read-only.
    - name: tmp
      emptyDir:
        sizeLimit: 2Gi
    # Otherwise 64 MiB.
    - name: shm
      emptyDir:
        medium: Memory
        sizeLimit: {{ .shm.size }}
    {{- with .storage.caBundle.configMap }}
    - name: ca
      configMap:
        name: {{ . }}
    {{- end }}
    {{- with .storage.caBundle.secret }}
    - name: ca
      secret:
        secretName: {{ . }}
    {{- end }}
    {{- if $several }}
    - name: worker-key
      secret:
        secretName: {{ include "catsdogs-train.workerKeyName" $root }}
        items:
          - key: {{ .workerKey.key }}
            path: {{ .workerKey.key }}
    {{- end }}
    {{- with .extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}
{{- end }}

{{- define "catsdogs-train.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ with .digest }}@{{ . }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "catsdogs-train.resources" -}}
{{- if .test -}}
requests:
  cpu: 100m
  memory: 256Mi
limits:
  cpu: 1
  memory: 1Gi
{{- else -}}
{{- $resources := deepCopy .root.Values.resources -}}
{{- if .gpus -}}
{{- $gpus := dict .root.Values.gpu.resource .gpus -}}
{{- $_ := set $resources "limits" (merge $gpus ($resources.limits | default dict)) -}}
{{- end -}}
{{- toYaml $resources }}
{{- end }}
{{- end }}

{{- /* A Job makes its pods from one template, so they have either one claim together, or each one that goes with it. */ -}}
{{- define "catsdogs-train.volumeType" -}}
{{- with .Values.volume -}}
{{- $alone := and (include "catsdogs-train.several" $) (ne .accessMode "ReadWriteMany") -}}
{{ ternary "ephemeral" .type (and (eq .type "pvc") (not (empty $alone))) }}
{{- end }}
{{- end }}

{{- define "catsdogs-train.volume" -}}
{{- with .root.Values.volume -}}
{{- if eq $.type "pvc" -}}
persistentVolumeClaim:
  claimName: {{ include "catsdogs-train.claimName" $.root }}
{{- else if eq $.type "ephemeral" -}}
ephemeral:
  volumeClaimTemplate:
    metadata:
      labels:
        {{- include "catsdogs-train.selectorLabels" $.root | nindent 8 }}
    spec:
      {{- include "catsdogs-train.claim" $.root | nindent 6 }}
{{- else -}}
emptyDir:
  sizeLimit: {{ .size }}
{{- end }}
{{- end }}
{{- end }}

{{- define "catsdogs-train.claim" -}}
{{- with .Values.volume -}}
accessModes: [{{ .accessMode }}]
{{- with .storageClass }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests:
    storage: {{ .size }}
{{- end }}
{{- end }}
