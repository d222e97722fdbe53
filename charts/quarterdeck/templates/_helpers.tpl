{{/* Front of all names. 40 characters leave room for what follows in names that may have 63. */}}
{{- define "quarterdeck.name" -}}
{{- .Values.nameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Front of the names of objects that belong to no namespace: two releases of one name must not meet. */}}
{{- define "quarterdeck.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "quarterdeck.name" .) -}}
{{- end -}}

{{/* What never changes, for selectors. Called with (dict "root" $ "part" "operator"). */}}
{{- define "quarterdeck.selector" -}}
app.kubernetes.io/name: quarterdeck-{{ .part }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "quarterdeck.labels" -}}
{{ include "quarterdeck.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: quarterdeck
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Called with (dict "root" $ "image" .Values.operator.image). */}}
{{- define "quarterdeck.image" -}}
{{- $registry := .root.Values.images.registry | trimSuffix "/" -}}
{{- printf "%s%s:%s" (ternary (printf "%s/" $registry) "" (ne $registry "")) .image.repository (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}

{{/* The pod's half of Pod Security "restricted". */}}
{{- define "quarterdeck.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.securityContext.runAsUser }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
{{- end }}
{{- with .Values.securityContext.fsGroup }}
fsGroup: {{ . }}
# A volume of a million files must not be walked through at every start.
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* The container's half. */}}
{{- define "quarterdeck.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where a pod may run and what fetches its image. Called with (dict "root" $ "program" .Values.operator). */}}
{{- define "quarterdeck.placement" -}}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .program.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .program.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .program.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .program.priorityClass }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "quarterdeck.tokenSecret" -}}
{{- .Values.deployer.tokenSecret | default (printf "%s-deployer-tokens" (include "quarterdeck.name" .)) -}}
{{- end -}}

{{/* The name of the volume claim with the deployer's database. */}}
{{- define "quarterdeck.claim" -}}
{{- .Values.deployer.persistence.existingClaim | default (printf "%s-deployer" (include "quarterdeck.name" .)) -}}
{{- end -}}

{{/* Namespaces whose ModelDeployments the deployer writes, with commas between; empty: none. */}}
{{- define "quarterdeck.deployerNamespaces" -}}
{{- if .Values.deployer.kubernetes.enabled -}}
{{- .Values.deployer.kubernetes.namespaces | default .Values.watchNamespaces | default (list .Release.Namespace) | uniq | join "," -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do with ModelDeployments and what it owns, wherever that is. */}}
{{- define "quarterdeck.operatorRules" -}}
- apiGroups: [quarterdeck.dev]
  resources: [modeldeployments]
  verbs: [get, list, watch]
- apiGroups: [quarterdeck.dev]
  resources: [modeldeployments/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps]
  # Records are compared and swapped, which is an update.
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}
