CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
CREATE TABLE artifacts (
	run_id INTEGER NOT NULL, 
	identity TEXT NOT NULL, 
	name TEXT NOT NULL, 
	step TEXT, 
	sha256 TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	media_type TEXT, 
	description TEXT, 
	at BIGINT NOT NULL, 
	rank INTEGER NOT NULL, 
	PRIMARY KEY (run_id, identity, name)
)
 WITHOUT ROWID;
CREATE TABLE attempts (
	run_id INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	started_at BIGINT NOT NULL, 
	ended_at BIGINT NOT NULL, 
	error TEXT, 
	next_at BIGINT NOT NULL, 
	PRIMARY KEY (run_id, attempt)
)
 WITHOUT ROWID;
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	invoker TEXT NOT NULL, 
	action TEXT NOT NULL, 
	subject_id INTEGER, 
	detail TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE endings (
	run_id INTEGER NOT NULL, 
	PRIMARY KEY (run_id)
);
CREATE TABLE failure_series (
	flow TEXT NOT NULL, 
	failures INTEGER NOT NULL, 
	told SMALLINT NOT NULL, 
	PRIMARY KEY (flow)
);
CREATE TABLE failures (
	flow TEXT NOT NULL, 
	suspend_after INTEGER NOT NULL, 
	in_a_row INTEGER NOT NULL, 
	PRIMARY KEY (flow)
);
CREATE TABLE flows (
	name TEXT NOT NULL, 
	location TEXT NOT NULL, 
	spec TEXT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	removed_at BIGINT, 
	PRIMARY KEY (name)
);
CREATE TABLE happenings (
	id INTEGER NOT NULL, 
	notification_id INTEGER NOT NULL, 
	channel TEXT NOT NULL, 
	event TEXT NOT NULL, 
	flow TEXT NOT NULL, 
	run_id INTEGER, 
	count INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	detail TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE keys (
	scope TEXT NOT NULL, 
	invoker TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	request_id INTEGER NOT NULL, 
	sent TEXT NOT NULL, 
	validated TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY (scope, invoker, "key")
)
 WITHOUT ROWID;
CREATE TABLE meta (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE notifications (
	id INTEGER NOT NULL, 
	uuid TEXT NOT NULL, 
	channel TEXT NOT NULL, 
	event TEXT NOT NULL, 
	flow TEXT NOT NULL, 
	state TEXT NOT NULL, 
	count INTEGER NOT NULL, 
	created_at BIGINT NOT NULL, 
	last_at BIGINT NOT NULL, 
	due_at BIGINT NOT NULL, 
	sealed_at BIGINT, 
	trying_since BIGINT, 
	tries INTEGER NOT NULL, 
	last_error TEXT, 
	ended_at BIGINT, 
	message TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE notify_changes (
	flow TEXT NOT NULL, 
	change TEXT NOT NULL, 
	PRIMARY KEY (flow)
);
CREATE TABLE pauses (
	flow TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	until BIGINT, 
	invoker TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (flow)
);
CREATE TABLE pruned (
	kind TEXT NOT NULL, 
	below BIGINT NOT NULL, 
	rows BIGINT NOT NULL, 
	PRIMARY KEY (kind)
);
CREATE TABLE pruned_flows (
	flow TEXT NOT NULL, 
	below BIGINT NOT NULL, 
	PRIMARY KEY (flow)
);
CREATE TABLE questions (
	id INTEGER NOT NULL, 
	uuid TEXT NOT NULL, 
	run_id INTEGER NOT NULL, 
	identity TEXT NOT NULL, 
	flow TEXT NOT NULL, 
	state TEXT NOT NULL, 
	text TEXT NOT NULL, 
	details TEXT, 
	schema TEXT NOT NULL, 
	recipients TEXT NOT NULL, 
	asked_at BIGINT NOT NULL, 
	expires_at BIGINT, 
	fallback TEXT, 
	answer TEXT, 
	answered_by TEXT, 
	answered_at BIGINT, 
	reason TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE rate_uses (
	"key" TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	request_id INTEGER NOT NULL, 
	PRIMARY KEY ("key", at, request_id)
)
 WITHOUT ROWID;
CREATE TABLE rates (
	"key" TEXT NOT NULL, 
	until BIGINT NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE TABLE requests (
	id INTEGER NOT NULL, 
	uuid TEXT NOT NULL, 
	flow TEXT, 
	inputs TEXT, 
	outcome TEXT NOT NULL, 
	code TEXT, 
	reason TEXT, 
	errors TEXT, 
	original_id INTEGER, 
	trigger_kind TEXT NOT NULL, 
	trigger_name TEXT, 
	invoker TEXT NOT NULL, 
	invoker_kind TEXT NOT NULL, 
	on_behalf_of TEXT, 
	source TEXT NOT NULL, 
	note TEXT, 
	idempotency_key TEXT, 
	repeat_key TEXT, 
	dry_run SMALLINT NOT NULL, 
	at BIGINT NOT NULL, 
	last_at BIGINT, 
	count INTEGER NOT NULL, scheduled_for BIGINT, origin TEXT, pruned_run TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE runs (
	id INTEGER NOT NULL, 
	uuid TEXT NOT NULL, 
	flow TEXT NOT NULL, 
	flow_version TEXT NOT NULL, 
	state TEXT NOT NULL, 
	inputs TEXT NOT NULL, 
	trigger_kind TEXT NOT NULL, 
	invoker TEXT NOT NULL, 
	lane TEXT NOT NULL, 
	slot TEXT, 
	priority INTEGER NOT NULL, 
	token INTEGER NOT NULL, 
	owner INTEGER, 
	attempt INTEGER NOT NULL, 
	takeovers INTEGER NOT NULL, 
	losses INTEGER NOT NULL, 
	test SMALLINT NOT NULL, 
	parent_id INTEGER, 
	rerun_of INTEGER, 
	resumed_from INTEGER, 
	scheduled_for BIGINT, 
	not_before BIGINT, 
	queued_at BIGINT, 
	started_at BIGINT, 
	ended_at BIGINT, 
	result TEXT, 
	error TEXT, 
	cancel TEXT, 
	waiting_for TEXT, 
	partial TEXT, dedup TEXT, shared TEXT, expires_at BIGINT, attempt_started_at BIGINT, epoch INTEGER, recorded_version TEXT, parks INTEGER DEFAULT '0' NOT NULL, progress_done DOUBLE, progress_total DOUBLE, progress_text TEXT, 
	PRIMARY KEY (id)
);
CREATE TABLE sleeps (
	run_id INTEGER NOT NULL, 
	identity TEXT NOT NULL, 
	until BIGINT NOT NULL, 
	PRIMARY KEY (run_id, identity)
)
 WITHOUT ROWID;
CREATE TABLE slots (
	"key" TEXT NOT NULL, 
	capacity INTEGER NOT NULL, declared INTEGER, configured INTEGER, override TEXT, shared TEXT, shared_limit INTEGER, rule TEXT, changed_at BIGINT, 
	PRIMARY KEY ("key")
);
CREATE TABLE steps (
	run_id INTEGER NOT NULL, 
	identity TEXT NOT NULL, 
	seq INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	state TEXT NOT NULL, 
	started_at BIGINT NOT NULL, 
	ended_at BIGINT, 
	result TEXT, 
	error TEXT, writes TEXT, set_aside INTEGER, kept SMALLINT, 
	PRIMARY KEY (run_id, identity)
)
 WITHOUT ROWID;
CREATE TABLE trigger_history (
	id INTEGER NOT NULL, 
	trigger_id INTEGER NOT NULL, 
	outcome TEXT NOT NULL, 
	reason TEXT, 
	detail TEXT, 
	at BIGINT NOT NULL, 
	last_at BIGINT NOT NULL, 
	count INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE trigger_state (
	trigger_id INTEGER NOT NULL, 
	generation INTEGER NOT NULL, 
	cursor TEXT, 
	next_due BIGINT, 
	last_poll_at BIGINT, 
	last_fired_at BIGINT, 
	errors INTEGER NOT NULL, 
	error TEXT, 
	PRIMARY KEY (trigger_id)
);
CREATE TABLE triggers (
	id INTEGER NOT NULL, 
	uuid TEXT NOT NULL, 
	name TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	location TEXT NOT NULL, 
	place TEXT NOT NULL, 
	description TEXT NOT NULL, 
	flows TEXT NOT NULL, 
	enabled SMALLINT NOT NULL, 
	parameters TEXT NOT NULL, 
	settings TEXT NOT NULL, 
	override TEXT, 
	registered_at BIGINT NOT NULL, 
	removed_at BIGINT, 
	PRIMARY KEY (id)
);
CREATE TABLE watched_flows (
	flow TEXT NOT NULL, 
	PRIMARY KEY (flow)
);
CREATE INDEX artifacts_sha256 ON artifacts (sha256);
CREATE INDEX happenings_notification ON happenings (notification_id, id);
CREATE INDEX happenings_run ON happenings (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX keys_request ON keys (request_id);
CREATE INDEX notifications_channel ON notifications (channel, id);
CREATE INDEX notifications_due ON notifications (channel, state, due_at) WHERE state IN ('gathering', 'pending');
CREATE INDEX notifications_ended ON notifications (channel, state, ended_at);
CREATE INDEX notifications_flow ON notifications (flow, id);
CREATE UNIQUE INDEX notifications_gathering ON notifications (channel, flow, event) WHERE state = 'gathering';
CREATE INDEX notifications_kind ON notifications (channel, flow, event, due_at);
CREATE INDEX notifications_sealed ON notifications (channel, sealed_at);
CREATE INDEX notifications_state ON notifications (state, id);
CREATE UNIQUE INDEX notifications_uuid ON notifications (uuid);
CREATE INDEX questions_due ON questions (expires_at) WHERE state = 'open' AND expires_at IS NOT NULL;
CREATE INDEX questions_flow ON questions (flow, id);
CREATE UNIQUE INDEX questions_open ON questions (run_id, identity) WHERE state = 'open';
CREATE INDEX questions_run ON questions (run_id, identity);
CREATE INDEX questions_state ON questions (state, id);
CREATE UNIQUE INDEX questions_uuid ON questions (uuid);
CREATE INDEX requests_flow ON requests (flow, id);
CREATE INDEX requests_invoker ON requests (invoker, id);
CREATE INDEX requests_outcome ON requests (outcome, id);
CREATE UNIQUE INDEX requests_repeat_key ON requests (repeat_key) WHERE repeat_key IS NOT NULL;
CREATE INDEX requests_trigger_kind ON requests (trigger_kind, id);
CREATE INDEX requests_uuid ON requests (uuid);
CREATE UNIQUE INDEX runs_dedup ON runs (dedup) WHERE dedup IS NOT NULL AND state IN ('scheduled', 'queued', 'running', 'waiting', 'cancelling');
CREATE INDEX runs_due ON runs (not_before) WHERE state = 'scheduled';
CREATE INDEX runs_ended ON runs (flow, state, ended_at, id, started_at, queued_at, attempt, takeovers, progress_done, test) WHERE ended_at IS NOT NULL AND test = 0;
CREATE INDEX runs_expiry ON runs (expires_at) WHERE expires_at IS NOT NULL AND started_at IS NULL AND state IN ('scheduled', 'queued');
CREATE INDEX runs_flow ON runs (flow, id);
CREATE INDEX runs_orphaned ON runs (lane, id) WHERE owner IS NULL AND state IN ('running', 'cancelling');
CREATE INDEX runs_parent ON runs (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX runs_queue ON runs (lane, priority DESC, id) WHERE state = 'queued' AND slot IS NULL;
CREATE INDEX runs_rerun_of ON runs (rerun_of) WHERE rerun_of IS NOT NULL;
CREATE INDEX runs_resumed_from ON runs (resumed_from) WHERE resumed_from IS NOT NULL;
CREATE INDEX runs_shared_held ON runs (shared) WHERE shared IS NOT NULL AND state IN ('running', 'waiting', 'cancelling');
CREATE INDEX runs_shared_queue ON runs (shared, priority DESC, id) WHERE shared IS NOT NULL AND state = 'queued';
CREATE INDEX runs_slot_held ON runs (slot) WHERE slot IS NOT NULL AND state IN ('running', 'waiting', 'cancelling');
CREATE INDEX runs_slot_queue ON runs (slot, priority DESC, id) WHERE state = 'queued' AND slot IS NOT NULL;
CREATE INDEX runs_slot_retry ON runs (slot) WHERE slot IS NOT NULL AND state = 'scheduled' AND attempt > 1;
CREATE INDEX runs_state ON runs (state, id);
CREATE UNIQUE INDEX runs_uuid ON runs (uuid);
CREATE INDEX sleeps_due ON sleeps (until);
CREATE INDEX trigger_history_trigger ON trigger_history (trigger_id, id);
CREATE UNIQUE INDEX triggers_name ON triggers (name);
CREATE UNIQUE INDEX triggers_uuid ON triggers (uuid);
INSERT INTO alembic_version VALUES ('0011');
