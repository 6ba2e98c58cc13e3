-- One event's whole effect in one step: the call, the duplicate mark, the timeline entry, the timer and the deliveries.
-- Source: architecture, "One atomic commit". Keys: bridge/store/keys.py.
--
-- KEYS  1 pair  2 ended  3 seen  4 timeline  5 lane  6 lanes  7 timers  8 active  9 waiting  10 parked  11 delivered
-- ARGV  1 now, ms (0: this server's clock)   2 version that the decision was made on
--       3 call id   4 the call's member in timers and active   5 the pair's name in lanes
--       6 where the call goes: live (listed), hidden (kept, not listed) or ended
--       7 the call   8 its start, ms   9 timer: keep, clear or a number of ms from now
--       10 the mark's life, ms (0: no mark)   11 an ended call's life, ms   12 a live timeline's life, ms
--       13 entries a timeline holds   14 the timeline entry   15 1: only if the call's timer has run out
--       16 what delivery keys begin with   17... id, effect, after of each delivery
-- Returns 'ok', or why nothing was done: 'duplicate', 'conflict' (decide again), 'not_due'.
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local call_id, place = ARGV[3], ARGV[6]

if ARGV[10] ~= '0' and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('PEXPIRE', KEYS[3], ARGV[10])  -- a write: WAIT behind it then speaks for the first one too
  return 'duplicate'
end
if (redis.call('HGET', KEYS[1], 'v') or '0') ~= ARGV[2] then return 'conflict' end
if ARGV[15] == '1' then
  local due = redis.call('ZSCORE', KEYS[7], ARGV[4])
  if not due or tonumber(due) > now then return 'not_due' end
end

if ARGV[10] ~= '0' then redis.call('SET', KEYS[3], '1', 'PX', ARGV[10]) end
redis.call('HINCRBY', KEYS[1], 'v', 1)

if place == 'ended' then
  local errand = redis.call('HGET', KEYS[1], 'e:' .. call_id)
  redis.call('HDEL', KEYS[1], 'c:' .. call_id, 'e:' .. call_id)
  redis.call('HSET', KEYS[2], 'call', ARGV[7])
  if errand then redis.call('HSET', KEYS[2], 'errand', errand) end
  redis.call('PEXPIRE', KEYS[2], ARGV[11])
  redis.call('ZREM', KEYS[8], ARGV[4])
else
  redis.call('HSET', KEYS[1], 'c:' .. call_id, ARGV[7])
  -- A call that came back keeps the id of its first errand until it has another: the first's close may still wait.
  local errand = redis.call('HGET', KEYS[2], 'errand')
  if errand then redis.call('HSET', KEYS[1], 'e:' .. call_id, errand) end
  redis.call('DEL', KEYS[2])
  if place == 'live' then redis.call('ZADD', KEYS[8], ARGV[8], ARGV[4]) end
end
-- The version outlives the last call by an hour: a decision made before that call cannot pass for one made after it.
if redis.call('HLEN', KEYS[1]) == 1 then redis.call('PEXPIRE', KEYS[1], 3600000) else redis.call('PERSIST', KEYS[1]) end

if ARGV[9] == 'clear' then
  redis.call('ZREM', KEYS[7], ARGV[4])
elseif ARGV[9] ~= 'keep' then
  redis.call('ZADD', KEYS[7], now + tonumber(ARGV[9]), ARGV[4])
end

redis.call('RPUSH', KEYS[4], ARGV[14])
redis.call('LTRIM', KEYS[4], -tonumber(ARGV[13]), -1)
redis.call('PEXPIRE', KEYS[4], place == 'ended' and ARGV[11] or ARGV[12])

for i = 17, #ARGV, 3 do
  local id = ARGV[i]
  -- A PBX that counts its calls anew comes to ids that were used: nothing of the old delivery may cling to this one.
  redis.call('DEL', ARGV[16] .. id)
  redis.call('ZREM', KEYS[10], id)
  redis.call('ZREM', KEYS[11], id)
  redis.call('HSET', ARGV[16] .. id, 'effect', ARGV[i + 1], 'created', now, 'attempts', 0, 'state', 'waiting',
    'after', ARGV[i + 2])
  redis.call('RPUSH', KEYS[5], id)
  redis.call('ZADD', KEYS[9], now, id)
  -- NX: a lane that is leased, or put back for later, keeps its time.
  redis.call('ZADD', KEYS[6], 'NX', now, ARGV[5])
end
return 'ok'
