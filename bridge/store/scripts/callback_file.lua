-- Notes beside a kept callback that one of its files is stored, unless the callback is forgotten by now.
--
-- KEYS  1 callback
-- ARGV  1 the file's field   2 what is told of it
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
