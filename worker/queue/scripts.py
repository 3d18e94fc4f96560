"""The Lua that runs in Redis: one script for a step of the loop, one for the renewal of leases.

Owns arq's keys as the scripts spell them, and the order in which they are read and written. Keys of single runs are
built inside, since which runs a step meets is not known before: one Redis (or one slot), as arq itself demands.
Redis' own clock decides what is due, so that workers whose clocks differ agree.
"""

from typing import Final

STEP: Final = b"""
-- KEYS: queue, abort set, and the marker where there is one.  ARGV: see `worker.queue.step.arguments`.
local call = redis.call
local queue, abort, marker = KEYS[1], KEYS[2], KEYS[3]
local me, want, lease_ms, page = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local from, budget = tonumber(ARGV[5]), tonumber(ARGV[6])
local keep_payloads, adopt, count = ARGV[7] == '1', ARGV[8] == '1', ARGV[9] == '1'
local holding, ending = tonumber(ARGV[10]), tonumber(ARGV[11])
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = 12

local held = {}
for i = 1, holding do
  held[ARGV[at]] = true
  at = at + 1
end

local aborts = call('ZCARD', abort)

if ending > 0 then
  local keys, gone, finished = {}, {}, {}
  for i = 1, ending do
    keys[i] = 'arq:in-progress:' .. ARGV[at + (i - 1) * 7]
  end
  local holders = call('MGET', unpack(keys))
  for i = 1, ending do
    local id, score, kind, value, ms, keep_ms, try =
      ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6]
    at = at + 7
    -- a lease that lapsed and that nobody took is still this delivery's, as long as the queue's entry is
    if holders[i] == me or (not holders[i] and call('ZSCORE', queue, id) == score) then
      if keep_ms == '0' then
        gone[#gone + 1] = keys[i]
      else
        call('PEXPIRE', keys[i], keep_ms)
      end
      if kind == 'finish' then
        if value ~= '' then
          if ms == '0' then
            call('SET', 'arq:result:' .. id, value)
          else
            call('SET', 'arq:result:' .. id, value, 'PX', ms)
          end
        end
        gone[#gone + 1] = 'arq:retry:' .. id
        gone[#gone + 1] = 'arq:job:' .. id
        finished[#finished + 1] = id
      else
        if kind == 'unspent' and call('DECR', 'arq:retry:' .. id) < 1 then
          gone[#gone + 1] = 'arq:retry:' .. id
        elseif kind == 'spent' and try ~= '0' then
          call('SET', 'arq:retry:' .. id, try, 'EX', 88400)
        end
        -- one ms later than before where it may start at once: a change, which wakes idle workers
        call('ZADD', queue, 'XX', ms == '0' and score + 1 or now + ms, id)
      end
    elseif not holders[i] and kind == 'finish' and value ~= '' then
      -- Redis lost this run's keys, or has done this already: whoever asks gets the result all the same
      if ms == '0' then
        call('SET', 'arq:result:' .. id, value, 'NX')
      else
        call('SET', 'arq:result:' .. id, value, 'PX', ms, 'NX')
      end
    end
  end
  if #gone > 0 then
    call('DEL', unpack(gone))
  end
  if #finished > 0 then
    call('ZREM', queue, unpack(finished))
    if aborts > 0 then
      call('ZREM', abort, unpack(finished))
    end
  end
end

if aborts > 0 then
  -- a request for what has ended is nobody's; a fresh one may be ahead of its job
  for _, id in ipairs(call('ZRANGEBYSCORE', abort, '-inf', now - 60000, 'LIMIT', 0, 10)) do
    if call('EXISTS', 'arq:job:' .. id) == 0 then
      call('ZREM', abort, id)
    end
  end
end

-- after all writes to the queue: reading it last is what makes Redis tell of the next change by anyone else
local taken, keys, next_ms, more = {}, {}, -1, 0
if want > 0 then
  local scanned = 0
  while true do
    local found = call('ZRANGEBYSCORE', queue, '-inf', now, 'WITHSCORES', 'LIMIT', from, want + page)
    for i = 1, #found, 2 do
      local id = found[i]
      if not held[id] then
        local lease = 'arq:in-progress:' .. id
        local try
        if call('SET', lease, me, 'PX', lease_ms, 'NX') then
          try = call('INCR', 'arq:retry:' .. id)
          if try == 1 then
            call('EXPIRE', 'arq:retry:' .. id, 88400)
          end
        elseif adopt and call('GET', lease) == me then
          -- claimed by an earlier step whose reply was lost, and counted then
          call('PEXPIRE', lease, lease_ms)
          try = tonumber(call('GET', 'arq:retry:' .. id) or 1)
        end
        if try then
          local abort_ms = aborts > 0 and call('ZSCORE', abort, id) or ''
          if keep_payloads then
            call('PERSIST', 'arq:job:' .. id)
          end
          local n = #taken
          taken[n + 1], taken[n + 2], taken[n + 3], taken[n + 4] = id, found[i + 1], try, abort_ms
          keys[#keys + 1] = 'arq:job:' .. id
          want = want - 1
          if want == 0 then
            break
          end
        end
      end
    end
    scanned = scanned + #found / 2
    from = from + #found / 2
    if want == 0 or #found == 0 then
      from = 0
      break
    elseif scanned >= budget then
      more = 1
      break
    end
  end
  if want > 0 and more == 0 then
    local later = call('ZRANGEBYSCORE', queue, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if later[2] then
      next_ms = later[2] - now
    end
  end
end

return {
  taken,
  #keys > 0 and call('MGET', unpack(keys)) or {},
  math.ceil(next_ms),
  aborts > 0 and call('ZREVRANGE', abort, 0, 999, 'WITHSCORES') or {},
  more == 1 and from or -1,
  marker and call('EXISTS', marker) or 1,
  count and call('ZCARD', queue) or -1,
}
"""
"""One step: writes how runs ended, then claims due ones past those that others hold; all or nothing."""

RENEW: Final = b"""
-- ARGV: the holder, then a lease's length in ms, then ids; answers with those that somebody else holds
local me, lease_ms, lost = ARGV[1], ARGV[2], {}
for i = 3, #ARGV do
  local lease = 'arq:in-progress:' .. ARGV[i]
  local holder = redis.call('GET', lease)
  if holder == me then
    redis.call('PEXPIRE', lease, lease_ms)
  elseif holder then
    lost[#lost + 1] = ARGV[i]
  elseif redis.call('EXISTS', 'arq:job:' .. ARGV[i]) == 1 then
    -- lapsed, or lost and delivered anew; a run that has just ended has no payload, and needs no lease
    redis.call('SET', lease, me, 'PX', lease_ms)
  end
end
return lost
"""
"""Renews leases; one that lapsed, or that Redis lost, is taken again where nobody else has taken it."""
