-- One callback's whole effect in one step: the duplicate mark, the callback, its entry in the call's timeline, and what it
-- leads to. Source: docs/callbacks.md. Keys: bridge/store/keys.py; all are in the shard of the call that it belongs to.
--
-- KEYS  1 mark  2 callback  3 document  4 callbacks  5 the call's timeline (any key where there is no entry)  6 lanes
--       7 waiting  8 parked  9 delivered
-- ARGV  1 now, ms (0: this server's clock)   2 callback's id   3 the mark's life, ms   4 the callback's life, ms
--       5 callbacks kept in the shard   6 timeline entry or ''   7 entries a timeline holds
--       8 what the shard's keys for callbacks begin with   9 what is told of it   10 Cention's document
--       11... id, lane and effect of each delivery
-- Returns 'ok', or 'duplicate' where nothing was done.
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])  -- a write: WAIT behind it then speaks for the first one too
  return 'duplicate'
end

local ids = {}
for i = 11, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
-- First, since it needs memory: a full Redis refuses a script at that only while it has written nothing.
redis.call('HSET', KEYS[2], 'told', ARGV[9], 'received', now, 'jobs', table.concat(ids, ' '))
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('HSET', KEYS[3], 'document', ARGV[10])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('ZADD', KEYS[4], now, ARGV[2])

for i = 11, #ARGV, 3 do
  local id, lane = ARGV[i], ARGV[i + 1]
  -- One that comes again after its mark is gone: nothing of the old delivery, such as its end, may cling to this one.
  redis.call('DEL', ARGV[8] .. 'delivery:' .. id)
  redis.call('ZREM', KEYS[8], id)
  redis.call('ZREM', KEYS[9], id)
  redis.call('HSET', ARGV[8] .. 'delivery:' .. id, 'effect', ARGV[i + 2], 'created', now, 'attempts', 0,
    'state', 'waiting', 'after', '')
  redis.call('ZADD', KEYS[7], now, id)
  -- NX: a lane that is leased, or put back for later, keeps its time.
  redis.call('ZADD', KEYS[6], 'NX', now, lane)
  redis.call('RPUSH', ARGV[8] .. 'lane:' .. lane, id)
end
-- Last of what must be: where this fails at a key that is none of ours, the callback has not come, and may come again.
redis.call('SET', KEYS[1], '1', 'PX', ARGV[3])

-- What follows may fail by itself. A call that is forgotten gets no timeline: nobody could find it.
if ARGV[6] ~= '' and redis.call('EXISTS', KEYS[5]) == 1 then
  redis.pcall('RPUSH', KEYS[5], ARGV[6])
  redis.pcall('LTRIM', KEYS[5], -tonumber(ARGV[7]), -1)
end

for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now - tonumber(ARGV[4]), 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[4], old)
end
-- What is parked goes with the callbacks of its time: unlike an agent's, nobody is asked to decide about it.
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[8], '-inf', now - tonumber(ARGV[4]), 'LIMIT', 0, 100)) do
  redis.call('ZREM', KEYS[8], old)
  redis.call('DEL', ARGV[8] .. 'delivery:' .. old)
end
for _, old in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1 - tonumber(ARGV[5]))) do
  redis.call('ZREM', KEYS[4], old)
  local waits = false
  local jobs = redis.pcall('HGET', ARGV[8] .. 'callback:' .. old, 'jobs')
  for id in string.gmatch(type(jobs) == 'string' and jobs or '', '%S+') do
    waits = waits or redis.pcall('HGET', ARGV[8] .. 'delivery:' .. id, 'state') == 'waiting'
  end
  -- What still waits is needed until it is done, and goes by age.
  if not waits then redis.call('DEL', ARGV[8] .. 'callback:' .. old, ARGV[8] .. 'document:' .. old) end
end
return 'ok'
