package kms

import (
	"maps"
	"sync"

	"kastellan.dev/internal/audit"
	"kastellan.dev/internal/keystore"
	"kastellan.dev/internal/kmsapi"
)

// Events that AWS does not have. The others go by the names that CloudTrail has for them.
const (
	eventConnect    = "ConnectCustomKeyStoreAttempt" // the end of the work that ConnectCustomKeyStore begins
	eventDisconnect = "DisconnectCustomKeyStoreAttempt"
	eventHealth     = "CustomKeyStoreHealthChange"
)

// serviceEvent is something that the service did by itself.
type serviceEvent struct {
	account, region string
	name            string
	keyARN          string     // empty: it was not about a key
	details         audit.Data // serviceEventDetails
	data            audit.Data // additionalEventData
	readOnly        bool
}

// recordEvent writes the record of something the service did by itself.
func (s *Service) recordEvent(e serviceEvent) {
	kept := func(d audit.Data) audit.Data {
		d = maps.Clone(d)
		maps.DeleteFunc(d, func(_ string, value any) bool { return value == "" })
		return d
	}
	r := &audit.Record{
		EventVersion: "1.11", UserIdentity: audit.UserIdentity{AccountID: e.account, InvokedBy: internal},
		EventTime: s.now().UTC(), EventSource: "kms.amazonaws.com", EventName: e.name, AWSRegion: e.region,
		SourceIPAddress: internal, UserAgent: internal, EventID: audit.NewUUID(), ReadOnly: e.readOnly,
		EventType: audit.ServiceEvent, ManagementEvent: true, EventCategory: "Management", RecipientAccountID: e.account,
		AdditionalEventData: kept(e.data), ServiceEventDetails: kept(e.details),
	}
	if e.name == "SynchronizeMultiRegionKey" { // as AWS has it
		r.EventType = audit.APICall
	}
	if e.keyARN != "" {
		r.Resources = []audit.Resource{keyResource(e.account, e.keyARN)}
	}
	if err := s.audit.Write(s.ctx, r); err != nil {
		s.log.Error("what the service did by itself could not be recorded", "event", e.name, "error", err)
	}
}

// recordAttempt records how an attempt to connect has ended, and at which step if it failed.
func (c *connections) recordAttempt(rec *keyStoreRecord, evidence keystore.Evidence) {
	details := audit.Data{
		"customKeyStoreId": rec.ID, "connectionState": string(kmsapi.Connected), "requestId": rec.RequestID,
		"millisecondsTaken": evidence.Ended.Sub(evidence.Started).Milliseconds(),
	}
	if evidence.Code != "" {
		details["connectionState"], details["connectionErrorCode"], details["failure"] = string(kmsapi.Failed), string(evidence.Code), evidence.Failure
		for _, step := range evidence.Steps {
			if step.Failure != "" { // the last one that did is what the attempt broke on
				details["failedStep"], details["failedTarget"] = step.Name, step.Target
			}
		}
	}
	c.recordStore(rec, eventConnect, details)
}

func (c *connections) recordDisconnected(rec *keyStoreRecord) {
	c.recordStore(rec, eventDisconnect, audit.Data{
		"customKeyStoreId": rec.ID, "connectionState": string(kmsapi.Disconnected), "requestId": rec.RequestID,
	})
}

func (c *connections) recordStore(rec *keyStoreRecord, name string, details audit.Data) {
	data := audit.Data{"customKeyStoreName": rec.Name}
	if rec.HSM != nil {
		data["clusterId"] = rec.HSM.ClusterID
	}
	c.s.recordEvent(serviceEvent{account: rec.Account, region: rec.Region, name: name, details: details, data: data})
}

// healthChanges are those that are not recorded yet: a key store must not wait
// for the audit log when an HSM is lost.
type healthChanges struct {
	mu   sync.Mutex
	list []func()
	wake chan struct{} // holds one
}

func newHealthChanges() *healthChanges { return &healthChanges{wake: make(chan struct{}, 1)} }

func (h *healthChanges) add(record func()) {
	h.mu.Lock()
	h.list = append(h.list, record)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// flush records what has changed.
func (h *healthChanges) flush() {
	h.mu.Lock()
	list := h.list
	h.list = nil
	h.mu.Unlock()
	for _, record := range list {
		record()
	}
}

// runHealth records changes of health as they come.
func (s *Service) runHealth() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.health.wake:
			s.health.flush()
		}
	}
}

// followHealth has the changes of a connection's health recorded.
func (c *connections) followHealth(rec *keyStoreRecord, conn keystore.Connection) {
	teller, ok := conn.(keystore.HealthTeller)
	if !ok {
		return
	}
	teller.TellHealth(func(change keystore.HealthChange) {
		details := audit.Data{"customKeyStoreId": rec.ID, "part": change.Part, "state": change.State, "cause": change.Cause}
		c.s.health.add(func() { c.recordStore(rec, eventHealth, details) })
	})
}
