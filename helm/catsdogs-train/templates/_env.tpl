{{- /* The command's options, as environment variables. Without a `runId` the run has the name of the pod's Job. */ -}}
{{- define "catsdogs-train.env" -}}
{{- $gpus := .gpus -}}
{{- $runId := .runId -}}
{{- $alone := include "catsdogs-train.several" .root | empty -}}
{{- with .root.Values -}}
- name: CATSDOGS_ARCHIVE
  value: {{ .archive.uri | default (printf "s3://%s/%s" .bucket .archive.key) | quote }}
- name: CATSDOGS_OUTPUT
  value: {{ include "catsdogs-train.output" $.root | quote }}
- name: CATSDOGS_VOLUME
  value: /data
- name: CATSDOGS_RUN_ID
{{- with $runId }}
  value: {{ . | quote }}
{{- else }}
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['batch.kubernetes.io/job-name']
{{- end }}
- name: CATSDOGS_RECIPE
  value: {{ .training.recipe | quote }}
{{- $numbers := dict
  "EPOCHS" .training.epochs
  "BATCH_SIZE" .training.batchSize
  "LEARNING_RATE" .training.learningRate
  "IMAGE_SIZE" .training.imageSize
  "SEED" .training.seed
  "TRAIN_PER_CLASS" .training.trainPerClass
  "VALIDATION_PER_CLASS" .training.validationPerClass
  "TEST_PER_CLASS" .training.testPerClass
}}
{{- range $option, $number := $numbers }}
{{- if not (kindIs "invalid" $number) }}
- name: CATSDOGS_{{ $option }}
  value: {{ include "catsdogs-train.text" $number | quote }}
{{- end }}
{{- end }}
{{- if $gpus }}
- name: CATSDOGS_REQUIRE_GPU
  value: "true"
{{- else }}
# CUDA images request all GPUs, and get them on nodes whose default runtime is NVIDIA's.
- name: NVIDIA_VISIBLE_DEVICES
  value: void
{{- end }}
{{- with .training.precision }}
- name: CATSDOGS_PRECISION
  value: {{ . }}
{{- end }}
{{- if .training.xla }}
- name: CATSDOGS_XLA
  value: "true"
{{- end }}
- name: CATSDOGS_CHECKPOINT_EVERY
  value: {{ include "catsdogs-train.text" .checkpoint.every | quote }}
- name: CATSDOGS_CHECKPOINT_TO
  value: {{ .checkpoint.to | default (ternary "volume" "bucket" (and (eq .volume.type "pvc") $alone)) }}
{{- with .export }}
- name: CATSDOGS_EXPORT
  value: {{ . | quote }}
{{- end }}
- name: CATSDOGS_ADDRESSING_STYLE
  value: {{ .storage.addressingStyle }}
- name: CATSDOGS_STORAGE_TIMEOUT
  value: {{ include "catsdogs-train.text" .storage.timeout | quote }}
- name: CATSDOGS_LOG_FORMAT
  value: {{ .logFormat }}
{{- with .storage.endpoint }}
- name: AWS_ENDPOINT_URL_S3
  value: {{ . | quote }}
{{- end }}
{{- with .storage.region }}
- name: AWS_REGION
  value: {{ . | quote }}
- name: AWS_DEFAULT_REGION
  value: {{ . | quote }}
{{- end }}
- name: AWS_REQUEST_CHECKSUM_CALCULATION
  value: {{ .storage.checksums }}
- name: AWS_RESPONSE_CHECKSUM_VALIDATION
  value: {{ .storage.checksums }}
{{- if or .storage.caBundle.configMap .storage.caBundle.secret }}
- name: AWS_CA_BUNDLE
  value: /etc/catsdogs/ca/{{ .storage.caBundle.key }}
{{- end }}
{{- if or .credentials.existingSecret .credentials.accessKeyId }}
{{- range $variable, $key := include "catsdogs-train.secretKeys" $.root | fromYaml }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ include "catsdogs-train.secretName" $.root }}
      key: {{ $key }}
{{- end }}
{{- end }}
{{- /* Without them TensorFlow counts the node's CPUs. */ -}}
{{- range list "OMP_NUM_THREADS" "TF_NUM_INTRAOP_THREADS" "TF_NUM_INTEROP_THREADS" }}
- name: {{ . }}
  valueFrom:
    resourceFieldRef:
      resource: limits.cpu
{{- end }}
{{- end }}
{{- end }}

{{- /* Further options of one of several workers: its index, and the address of each. The Job's name is not known
here, as it follows from all of this. */ -}}
{{- define "catsdogs-train.workers" -}}
- name: CATSDOGS_WORKERS
  value: {{ include "catsdogs-train.text" .Values.workers | quote }}
- name: CATSDOGS_WORKER_INDEX
  valueFrom:
    fieldRef:
      fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
- name: JOB_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.labels['batch.kubernetes.io/job-name']
- name: CATSDOGS_WORKER_ADDRESS
  value: $(JOB_NAME)-{index}.{{ include "catsdogs-train.fullname" . }}:2222
- name: CATSDOGS_WORKER_KEY_FILE
  value: /etc/catsdogs/worker-key/{{ .Values.workerKey.key }}
- name: CATSDOGS_WORKER_TIMEOUT
  value: {{ include "catsdogs-train.text" .Values.workerTimeout | quote }}
- name: CATSDOGS_HEARTBEAT_TIMEOUT
  value: {{ include "catsdogs-train.text" .Values.heartbeatTimeout | quote }}
{{- end }}

{{- /* Variable → its key in the Secret, the chart's or the user's. */ -}}
{{- define "catsdogs-train.secretKeys" -}}
{{- with .Values.credentials -}}
AWS_ACCESS_KEY_ID: {{ .keys.accessKeyId }}
AWS_SECRET_ACCESS_KEY: {{ .keys.secretAccessKey }}
{{- if or .sessionToken (and .existingSecret .keys.sessionToken) }}
AWS_SESSION_TOKEN: {{ .keys.sessionToken | default "AWS_SESSION_TOKEN" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "catsdogs-train.output" -}}
s3://{{ .Values.bucket }}{{ with .Values.output.prefix }}/{{ . }}{{ end }}
{{- end }}

{{- /* A number or a text as text. Helm reads numbers as integers from `--set` and as floats from files and from the
last release, and would write large ones in two ways: another name for the same run. */ -}}
{{- define "catsdogs-train.text" -}}
{{ toJson . | trimAll "\"" }}
{{- end }}
