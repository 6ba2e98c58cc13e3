-- Writes down what an attempt came to, and hands out the lane's next delivery while the lease is held.
-- Source: architecture, "Lanes": "Every settle checks the epoch".
--
-- KEYS  1 lanes  2 leases  3 lane  4 delivery  5 timeline  6 pair  7 ended  8 waiting  9 parked  10 delivered
-- ARGV  1 now, ms (0: this server's clock)   2 the pair's name in lanes   3 epoch   4 delivery id
--       5 delivered, parked, retry (later, counted) or hold (later, not counted)   6 wait before that, ms
--       7 lease, ms   8 wait for a hand-over, ms   9 1: go on with the lane   10 what the shard's keys begin with
--       11 reason   12 timeline entry or ''   13 entries a timeline holds   14 life of what is over, ms
--       15 delivered ones kept   16 call id   17 errand id or ''
-- Returns {'stale'} where another worker has the lane, {'done'}, or {'next', id, effect, attempts, created}.
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local lane, id, verdict = ARGV[2], ARGV[4], ARGV[5]
if redis.call('HGET', KEYS[2], lane) ~= ARGV[3] then return {'stale'} end
if redis.call('LINDEX', KEYS[3], 0) ~= id then return {'stale'} end

if ARGV[12] ~= '' then
  redis.call('RPUSH', KEYS[5], ARGV[12])
  redis.call('LTRIM', KEYS[5], -tonumber(ARGV[13]), -1)
  if redis.call('PTTL', KEYS[5]) < 0 then redis.call('PEXPIRE', KEYS[5], ARGV[14]) end
end

if verdict == 'retry' or verdict == 'hold' then
  local due = now + tonumber(ARGV[6])
  if verdict == 'hold' then redis.call('HINCRBY', KEYS[4], 'attempts', -1) end
  redis.call('HSET', KEYS[4], 'reason', ARGV[11], 'due', due)
  redis.call('ZADD', KEYS[1], due, lane)
  redis.call('HDEL', KEYS[2], lane)
  return {'done'}
end

redis.call('LPOP', KEYS[3])
redis.call('ZREM', KEYS[8], id)
redis.call('HDEL', KEYS[4], 'due')
if verdict == 'parked' then
  redis.call('HSET', KEYS[4], 'state', 'parked', 'reason', ARGV[11])
  redis.call('ZADD', KEYS[9], now, id)
else
  redis.call('HSET', KEYS[4], 'state', 'delivered')
  redis.call('PEXPIRE', KEYS[4], ARGV[14])
  redis.call('ZADD', KEYS[10], now, id)
  -- Kept for looking back, so bounded: the oldest go by count here, by age with their hash.
  for _, old in ipairs(redis.call('ZRANGE', KEYS[10], 0, -1 - tonumber(ARGV[15]))) do
    redis.call('ZREM', KEYS[10], old)
    redis.call('DEL', ARGV[10] .. 'delivery:' .. old)
  end
  if ARGV[17] ~= '' then
    if redis.call('HEXISTS', KEYS[6], 'c:' .. ARGV[16]) == 1 then
      redis.call('HSET', KEYS[6], 'e:' .. ARGV[16], ARGV[17])
    elseif redis.call('EXISTS', KEYS[7]) == 1 then
      redis.call('HSET', KEYS[7], 'errand', ARGV[17])
    end
  end
end

local next_id = redis.call('LINDEX', KEYS[3], 0)
if not next_id then
  redis.call('ZREM', KEYS[1], lane)
  redis.call('HDEL', KEYS[2], lane)
  return {'done'}
end
local key = ARGV[10] .. 'delivery:' .. next_id
local after = redis.call('HGET', key, 'after')
local waits = after and after ~= ''
if waits or ARGV[9] ~= '1' then
  redis.call('ZADD', KEYS[1], now + (waits and tonumber(ARGV[8]) or 0), lane)
  redis.call('HDEL', KEYS[2], lane)
  return {'done'}
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[7]), lane)
local attempts = redis.call('HINCRBY', key, 'attempts', 1)
local held = redis.call('HMGET', key, 'effect', 'created')
return {'next', next_id, held[1] or '', attempts, held[2] or now}
