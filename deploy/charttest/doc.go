// Package charttest holds the tests of the Helm chart in ../helm. They need no
// cluster and no network besides the Go module proxy.
//
// Every file of ../helm/ci is the values of one supported configuration. Each is
// checked against values.schema.json, linted, rendered strictly, decoded
// strictly into typed objects, looked over by the rules in the tests here, and
// validated by kubectl-validate against the schemas of Kubernetes 1.30. Values
// that contradict each other must be refused with a sentence.
//
// kubectl-validate needs older Kubernetes libraries than Helm does, so it has a
// module of its own and is built by the tests.
package charttest
