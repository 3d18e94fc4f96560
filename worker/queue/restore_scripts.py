"""The Lua that fills Redis again from the ledger: whose turn it is, what is missing, and putting it back.

Owns the keys as these scripts spell them. None of them changes anything that is there, but for a result that is
proved to be stale, and for expiries that would lose a run. Those that belong to a sweep end it, with a nil, where its
turn is over: Redis was flushed meanwhile, or another worker has begun. Redis' own clock is used for what is due soon
and for expiries, which are its own.
"""

from typing import Final

BEGIN: Final = b"""
-- KEYS: marker, turn.  ARGV: token, a turn's length in ms, the time in ms.
-- Answers 0: go; a positive number: nothing is to be done for so many ms; -1: another worker is at it.
local from, until_ = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
if from then
  local now, from, until_ = tonumber(ARGV[3]), tonumber(from), tonumber(until_)
  -- a marker from a future that its own length cannot explain was written by a clock that was wrong
  if now < until_ and now > from - (until_ - from) then
    return until_ - now
  end
end
return redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and 0 or -1
"""
"""Takes the turn where a sweep is due."""

END: Final = b"""
-- KEYS: marker, turn.  ARGV: token, the marker's value; empty for none.  Answers whether it was this turn to the end.
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[2])
if ARGV[2] ~= '' then
  redis.call('SET', KEYS[1], ARGV[2])
end
return 1
"""
"""Gives the turn back, and sets the marker after a sweep that came to its end."""

_IN_TURN: Final = b"""
if redis.call('GET', KEYS[2]) ~= ARGV[1] then
  return false
end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
"""

MISSING: Final = (
    b"-- KEYS: queue, turn.  ARGV: token, a turn's length in ms, ids.\n"
    b"-- Answers each id without payload or queue entry, followed by the fingerprint of its result, or nothing."
    + _IN_TURN
    + b"""
local missing = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local payload = redis.call('EXISTS', 'arq:job:' .. id) == 1
  if payload then
    redis.call('PERSIST', 'arq:job:' .. id)
  end
  if not (payload and redis.call('ZSCORE', KEYS[1], id)) then
    local result = redis.call('GET', 'arq:result:' .. id)
    missing[#missing + 1] = id
    missing[#missing + 1] = result and redis.sha1hex(result) or ''
  end
end
return missing
"""
)
"""Which of some runs that the ledger knows Redis has not; the payloads of the others lose their expiry."""

DELIVER: Final = b"""
-- KEYS: queue.  ARGV for each run: id, payload, due, fingerprint of a stale result.
-- A payload may be empty: nobody has it. Due is ms since 1970, or, after a +, ms from now.
-- Answers the ids that were delivered, then those whose payload is lost.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local delivered, lost = {}, {}
for i = 1, #ARGV, 4 do
  local id, payload, due, stale = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local result = redis.call('GET', 'arq:result:' .. id)
  if result and redis.sha1hex(result) ~= stale then
    -- it has ended since the ledger was read
  elseif payload == '' and redis.call('EXISTS', 'arq:job:' .. id) == 0 then
    lost[#lost + 1] = id
  else
    if result then
      redis.call('DEL', 'arq:result:' .. id)
    end
    if payload ~= '' then
      redis.call('SET', 'arq:job:' .. id, payload, 'NX')
    end
    if string.sub(due, 1, 1) == '+' then
      due = now + tonumber(string.sub(due, 2))
    end
    redis.call('ZADD', KEYS[1], 'NX', due, id)
    delivered[#delivered + 1] = id
  end
end
return {delivered, lost}
"""
"""Puts payloads and queue entries back where they are not."""

KEEP: Final = (
    b"-- KEYS: queue, turn.  ARGV: token, a turn's length in ms, how many entries to pass by, to look at,\n"
    b"-- arq's default expiry and how exactly it is met, in ms.  Answers how many were looked at, and changed."
    + _IN_TURN
    + b"""
local from, default, near = tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('ZREVRANGE', KEYS[1], from, from + ARGV[4] - 1, 'WITHSCORES')
local kept = 0
for i = 1, #found, 2 do
  local left = redis.call('PTTL', 'arq:job:' .. found[i])
  if left > 0 and math.abs(now + left - found[i + 1] - default) < near then
    redis.call('PERSIST', 'arq:job:' .. found[i])
    kept = kept + 1
  end
end
return {#found / 2, kept}
"""
)
"""Lets payloads outlive the backlog: those, and only those, whose expiry is what arq gives them unasked."""
