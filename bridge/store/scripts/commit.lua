-- One event's whole effect in one step: the call, the duplicate mark, the timeline entry, the timer and the deliveries.
-- Source: architecture, "One atomic commit". Keys: bridge/store/keys.py.
--
-- KEYS  1 pair  2 ended  3 seen  4 timeline  5 lane  6 lanes  7 timers  8 active  9 waiting  10 parked  11 delivered
--       12 errands  13 leases  14 finished  15 the call's index, where it has to be written and is on this server
-- ARGV  1 now, ms (0: this server's clock)   2 version that the decision was made on, '' for none
--       3 the call as it was made on, if it is over, else ''; - where it was live   4 the call's member in timers, active and errands
--       5 the pair's name in lanes   6 where the call goes: live (listed), hidden (kept, not listed) or ended
--       7 the pair's value after this   8 the call, if it is over   9 its start, ms
--       10 timer: keep, clear or a number of ms from now   11 the mark's life, ms (0: no mark)
--       12 an ended call's life, ms   13 a live timeline's life, ms   14 entries a timeline holds
--       15 the timeline entry   16 1: only if the call's timer has run out   17 what delivery keys begin with
--       18 lease of the first delivery, ms, if nothing is in its lane before it; 0: none is wanted
--       19 1 or 2: it ends here, and had an errand; 2: what is too old beside it goes   20... id, effect, after of each delivery
-- Returns {'ok'}, {'leased', created}, or why nothing was done: {'duplicate'}, {'not_due'}, {'conflict', the
-- pair's value, the call that is over}, each '' where there is none: the decision must be made again, on these.
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local member, place = ARGV[4], ARGV[6]

local marks = ARGV[11] ~= '0'
-- Looked at before anything that needs memory: of what was done before, a full Redis still tells, and lanes go on by it.
if marks and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('PEXPIRE', KEYS[3], ARGV[11])  -- a write: WAIT behind it then speaks for the first one too
  return {'duplicate'}
end
local held = redis.call('GET', KEYS[1])
local same = (held and string.match(held, '^%S+') or '') == ARGV[2]
-- Compared as well: it has a life of its own, and a pair that is forgotten has no version to tell of a change. Of a pair
-- that is as it was, a call that was live is not over.
local over = not (same and ARGV[3] == '-') and redis.call('HGET', KEYS[2], 'call')
if not same or ARGV[3] ~= '-' and (over or '') ~= ARGV[3] then
  return {'conflict', held or '', over or ''}
end
if ARGV[16] == '1' then
  local due = redis.call('ZSCORE', KEYS[7], member)
  if not due or tonumber(due) > now then return {'not_due'} end
end

if marks then redis.call('SET', KEYS[3], '1', 'PX', ARGV[11]) end
if KEYS[15] then
  redis.call('HSET', KEYS[15], ARGV[5], '')
  redis.call('PEXPIRE', KEYS[15], ARGV[13])
end
-- A pair without calls is remembered for an hour, so that the next call's decision finds the version it was made on.
if string.find(ARGV[7], ' ', 1, true) then
  redis.call('SET', KEYS[1], ARGV[7])
else
  redis.call('SET', KEYS[1], ARGV[7], 'PX', 3600000)
end

if place == 'ended' then
  local errand = redis.call('HGET', KEYS[12], member)
  if errand then
    redis.call('HSET', KEYS[2], 'call', ARGV[8], 'errand', errand)
    redis.call('HDEL', KEYS[12], member)
  else
    redis.call('HSET', KEYS[2], 'call', ARGV[8])
  end
  redis.call('PEXPIRE', KEYS[2], ARGV[12])
  redis.call('ZREM', KEYS[8], member)
  if ARGV[19] ~= '0' then redis.call('ZADD', KEYS[14], now, member) end
  if ARGV[19] == '2' then redis.call('ZREMRANGEBYSCORE', KEYS[14], '-inf', now - tonumber(ARGV[12])) end
else
  if over then
    -- A call that came back keeps the id of its first errand until it has another: the first's close may still wait.
    local errand = redis.call('HGET', KEYS[2], 'errand')
    if errand then redis.call('HSET', KEYS[12], member, errand) end
    redis.call('DEL', KEYS[2])
  end
  if place == 'live' then redis.call('ZADD', KEYS[8], ARGV[9], member) end
end

if ARGV[10] == 'clear' then
  redis.call('ZREM', KEYS[7], member)
elseif ARGV[10] ~= 'keep' then
  redis.call('ZADD', KEYS[7], now + tonumber(ARGV[10]), member)
end

if redis.call('RPUSH', KEYS[4], ARGV[15]) > tonumber(ARGV[14]) then
  redis.call('LTRIM', KEYS[4], -tonumber(ARGV[14]), -1)
end
redis.call('PEXPIRE', KEYS[4], place == 'ended' and ARGV[12] or ARGV[13])

-- The first delivery as if it had been claimed (see claim.lua), where its lane is empty. The epoch is the version, which
-- is of this write alone, as an epoch there is of one claim; and who asked knows it, even where this answer is lost.
local leased = false
for i = 20, #ARGV, 3 do
  local id, key = ARGV[i], ARGV[17] .. ARGV[i]
  local length = redis.call('RPUSH', KEYS[5], id)
  if i == 20 then leased = length == 1 and ARGV[18] ~= '0' end
  local told = redis.call('HSET', key, 'effect', ARGV[i + 1], 'created', now, 'attempts', leased and i == 20 and 1 or 0,
    'state', 'waiting', 'after', ARGV[i + 2])
  -- A PBX that counts its calls anew comes to ids that were used: nothing of the old delivery may cling to this one.
  if told < 5 then
    redis.call('HDEL', key, 'reason', 'doubt')
    redis.call('PERSIST', key)
    redis.call('ZREM', KEYS[10], id)
  end
  redis.call('ZREM', KEYS[11], id)  -- where the old one stands longer than its hash, which goes by age
  redis.call('ZADD', KEYS[9], now, id)
end
if leased then
  redis.call('HSET', KEYS[13], ARGV[5], string.match(ARGV[7], '^%S+'))
  redis.call('ZADD', KEYS[6], now + tonumber(ARGV[18]), ARGV[5])
  return {'leased', now}
end
-- NX: a lane that is leased, or put back for later, keeps its time.
if #ARGV >= 20 then redis.call('ZADD', KEYS[6], 'NX', now, ARGV[5]) end
return {'ok'}
