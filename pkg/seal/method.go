package seal

// The values of Request.Method (SPEC.md R-60). Bodies are messages of the
// protobuf packages mmr.hub.v1 and mmr.relay.v1 with the same names.
const (
	MethodCreateRoom   = "hub.CreateRoom"
	MethodUpdate       = "hub.Update"
	MethodExternalJoin = "hub.ExternalJoin"
	MethodSubmit       = "hub.Submit"
	MethodLinkInfo     = "hub.LinkInfo"
	MethodGroupInfo    = "hub.GroupInfo"
	MethodPutGroupInfo = "hub.PutGroupInfo"
	MethodCatchUp      = "hub.CatchUp"
	MethodJoinState    = "hub.JoinState"
	MethodWrapState    = "hub.WrapState"
	MethodWrapRefresh  = "hub.WrapRefresh"
	MethodPutSeals     = "hub.PutSeals"
	MethodReportCommit = "hub.ReportCommit"
	MethodReportAbuse  = "hub.ReportAbuse"

	MethodFetchConnectionPackage = "provider.FetchConnectionPackage"
	MethodSendConnectionRequest  = "provider.SendConnectionRequest"
	MethodPoolCreate             = "provider.PoolCreate"
	MethodPoolSlots              = "provider.PoolSlots"
	MethodPoolUpload             = "provider.PoolUpload"
	MethodPoolList               = "provider.PoolList"
	MethodPoolDelete             = "provider.PoolDelete"
	MethodFetchKeyPackages       = "provider.FetchKeyPackages"
	MethodQueueCreate            = "provider.QueueCreate"
	MethodQueueBlock             = "provider.QueueBlock"
	MethodQueueDelete            = "provider.QueueDelete"
	MethodQueueStat              = "provider.QueueStat"
	MethodQueueSetPush           = "provider.QueueSetPush"
)
