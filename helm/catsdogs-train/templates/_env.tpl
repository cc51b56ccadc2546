{{- /* All that the command is told. Without a `runId` the run is called like the Job that made the pod. */ -}}
{{- define "catsdogs-train.env" -}}
{{- $gpus := .gpus -}}
{{- $runId := .runId -}}
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
{{- $counts := dict
  "EPOCHS" .training.epochs
  "BATCH_SIZE" .training.batchSize
  "IMAGE_SIZE" .training.imageSize
  "SEED" .training.seed
  "TRAIN_PER_CLASS" .training.trainPerClass
  "VALIDATION_PER_CLASS" .training.validationPerClass
  "TEST_PER_CLASS" .training.testPerClass
}}
{{- range $option, $count := $counts }}
{{- if not (kindIs "invalid" $count) }}
- name: CATSDOGS_{{ $option }}
  # int64, since Helm reads numbers as floats and would write large ones as 4.2e+09.
  value: {{ int64 $count | quote }}
{{- end }}
{{- end }}
{{- with .training.learningRate }}
- name: CATSDOGS_LEARNING_RATE
  # float64, since `--set` makes 0.001 a string.
  value: {{ float64 . | quote }}
{{- end }}
{{- if $gpus }}
- name: CATSDOGS_REQUIRE_GPU
  value: "true"
{{- else }}
# Images with CUDA ask for all GPUs, and get them from nodes whose default runtime is NVIDIA's.
- name: NVIDIA_VISIBLE_DEVICES
  value: void
{{- end }}
- name: CATSDOGS_CHECKPOINT_EVERY
  value: {{ .checkpoint.every | quote }}
- name: CATSDOGS_CHECKPOINT_TO
  value: {{ .checkpoint.to | default (ternary "volume" "bucket" (eq .volume.type "pvc")) }}
- name: CATSDOGS_ADDRESSING_STYLE
  value: {{ .storage.addressingStyle }}
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
{{- $variables := dict
  "AWS_ACCESS_KEY_ID" .credentials.keys.accessKeyId
  "AWS_SECRET_ACCESS_KEY" .credentials.keys.secretAccessKey
  "AWS_SESSION_TOKEN" (.credentials.keys.sessionToken | default (ternary "AWS_SESSION_TOKEN" "" (ne .credentials.sessionToken "")))
}}
{{- range $variable, $key := $variables }}
{{- with $key }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ include "catsdogs-train.secretName" $.root }}
      key: {{ . }}
{{- end }}
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
