-- Writes down what an attempt came to, and hands out the lane's next delivery while the lease is held.
-- Source: architecture, "Lanes": "Every settle checks the epoch".
--
-- KEYS  1 lanes  2 leases  3 lane  4 delivery  5 timeline  6 errands  7 ended  8 waiting  9 parked  10 delivered
--       11 timers   12 what leads from the errand's id to its call, where it does
-- ARGV  1 now, ms (0: this server's clock)   2 the pair's name in lanes   3 epoch   4 delivery id
--       5 delivered, parked, retry (later, counted) or hold (later, not counted)   6 wait before that, ms
--       7 lease, ms   8 wait for a hand-over, ms   9 1: go on with the lane   10 what the shard's keys begin with
--       11 reason   12 timeline entry or ''   13 entries a timeline holds   14 life of what is over, ms
--       15 delivered ones kept, at least   16 the call's member in errands   17 errand id or ''
--       18 1: an attempt may have been carried out, else 0   19 how long that leads there, ms
-- Returns {'stale'} where another worker has the lane, {'done'}, or {'next', id, effect, attempts, created, doubt, age
-- in ms} (see claim.lua).
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local lane, id, verdict = ARGV[2], ARGV[4], ARGV[5]
if redis.call('HGET', KEYS[2], lane) ~= ARGV[3] then return {'stale'} end
local heads = redis.call('LRANGE', KEYS[3], 0, 1)
-- Asked again, since the first answer was lost: the lane's head is then what the first one handed out.
local again = heads[1] ~= id
-- What this fails at is the next delivery's affair, as in claim.lua: in a slot that a cluster is moving, it may be gone from
-- here already, or its key is none of ours. Its lane is due again after a lease's length.
local next_id = heads[again and 1 or 2]
local next_key = next_id and ARGV[10] .. 'delivery:' .. next_id
local held = next_id and redis.pcall('HMGET', next_key, 'effect', 'created', 'doubt', 'after', 'attempts')
local broken = held and held.err

-- Where memory is full, Redis refuses a script whose first write needs some: so what makes room comes first.
if again then
  redis.call('HDEL', KEYS[2], '')
elseif verdict == 'retry' or verdict == 'hold' then
  redis.call('HDEL', KEYS[2], lane)
else
  redis.call('LPOP', KEYS[3])
end

if not again then
  if ARGV[12] ~= '' then
    local entries = redis.call('RPUSH', KEYS[5], ARGV[12])
    if entries > tonumber(ARGV[13]) then redis.call('LTRIM', KEYS[5], -tonumber(ARGV[13]), -1) end
    if entries == 1 then redis.call('PEXPIRE', KEYS[5], ARGV[14]) end  -- the one before it was over its time
  end

  if verdict == 'retry' or verdict == 'hold' then
    if verdict == 'hold' then redis.call('HINCRBY', KEYS[4], 'attempts', -1) end
    redis.call('HSET', KEYS[4], 'reason', ARGV[11], 'doubt', ARGV[18])
    redis.call('ZADD', KEYS[1], now + tonumber(ARGV[6]), lane)
    return {'done'}
  end

  redis.call('ZREM', KEYS[8], id)
  if verdict == 'parked' then
    redis.call('HSET', KEYS[4], 'state', 'parked', 'reason', ARGV[11], 'doubt', ARGV[18])
    redis.call('ZADD', KEYS[9], now, id)
  else
    redis.call('HSET', KEYS[4], 'state', 'delivered')
    redis.call('PEXPIRE', KEYS[4], ARGV[14])
    redis.call('ZADD', KEYS[10], now, id)
    -- Kept for looking back, so bounded: the oldest go by count here, an eighth at a time, by age with their hash.
    local kept = tonumber(ARGV[15])
    local over = redis.call('ZCARD', KEYS[10]) - kept
    if over > kept / 8 then
      local gone = redis.call('ZPOPMIN', KEYS[10], over)
      for at = 1, #gone, 2 do
        redis.pcall('DEL', ARGV[10] .. 'delivery:' .. gone[at])  -- may be gone, to another node too
      end
    end
    if ARGV[17] ~= '' then
      if redis.call('ZSCORE', KEYS[11], ARGV[16]) then  -- every call that is not over has a timer
        redis.call('HSET', KEYS[6], ARGV[16], ARGV[17])
      elseif redis.call('EXISTS', KEYS[7]) == 1 then
        redis.call('HSET', KEYS[7], 'errand', ARGV[17])
      end
      if KEYS[12] then redis.call('SET', KEYS[12], ARGV[16], 'PX', ARGV[19]) end
    end
  end
end

if not next_id then
  redis.call('ZREM', KEYS[1], lane)
  redis.call('HDEL', KEYS[2], lane)
  return {'done'}
end
local wait = broken and ARGV[7] or held[4] and held[4] ~= '' and ARGV[8]
if wait or ARGV[9] ~= '1' then
  redis.call('ZADD', KEYS[1], now + tonumber(wait or 0), lane)
  redis.call('HDEL', KEYS[2], lane)
  return {'done'}
end
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[7]), lane)
local attempts = again and held[5] or redis.call('HINCRBY', next_key, 'attempts', 1)
local created = tonumber(held[2] or now)
return {'next', next_id, held[1] or '', attempts, created, held[3] or '0', now - created}
