-- Claims whose values are read from tables, and the tables that they follow. Frozen once released.
create table rowcast.claim (
  name       text        not null constraint claim_has_one_meaning primary key,
  query      text        not null,
  value_type regtype     not null,
  canonical  text        not null,
  stated_at  timestamptz not null default now(),
  stated_by  name        not null default session_user,
  constraint claim_name_fits_braces check (name ~ '^[A-Za-z0-9_.:/-]+$')
);
comment on table rowcast.claim is 'claims of row filters whose values a query reads: see rowcast.claim';
comment on column rowcast.claim.query is 'gives the values of one holder; {sub} stands for claim sub of its token';
comment on column rowcast.claim.value_type is 'the type of its values';
comment on column rowcast.claim.canonical is 'the holder as the column has it that the query compares with {sub}: an expression over {sub}';

create table rowcast.followed (
  claim   text     not null constraint followed_by_a_claim references rowcast.claim on delete cascade,
  target  regclass not null,
  columns text[]   not null,
  holder  text,
  constraint followed_once primary key (claim, target)
);
comment on table rowcast.followed is 'the tables whose changes may change the values of a claim';
comment on column rowcast.followed.columns is 'the columns that the query reads: a change of no other matters';
comment on column rowcast.followed.holder is 'the column that says whose values a row is of; null: a row may be of everybody';

alter table rowcast.channel add column unlisted boolean not null default false;
comment on column rowcast.channel.unlisted is 'it is captured because a claim follows it, and is no channel for clients';

-- A node of before knows no such claim, and would take one of that name from tokens.
alter table rowcast.node add column knows int;
comment on column rowcast.node.knows is 'the version of the schema that its program is of; null: 6 or less';
