-- the commits that the revisions of hub models were pinned to, JSON; empty until an attempt has asked the hub
alter table jobs add column commits text not null default '[]';
