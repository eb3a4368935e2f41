import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.zip.CRC32;
import java.util.zip.Deflater;
import java.util.zip.Inflater;

/** Native buffers and zlib's streams, made and dropped by several threads. */
public class Buffers {
    static long work(int seed) throws Exception {
        CRC32 sum = new CRC32();
        long state = seed;
        List<ByteBuffer> held = new ArrayList<>();
        for (int round = 0; round < 400; round++) {
            state = (state * 1103515245L + 12345) & 0x7fffffffL;
            ByteBuffer buffer = ByteBuffer.allocateDirect(1 + (int) (state % 40000));
            while (buffer.hasRemaining()) buffer.put((byte) (buffer.position() * 31 % (round + 2)));
            buffer.flip();
            byte[] plain = new byte[buffer.remaining()];
            buffer.get(plain);
            Deflater deflater = new Deflater(1 + round % 9);
            deflater.setInput(plain);
            deflater.finish();
            byte[] packed = new byte[plain.length + 100];
            int length = deflater.deflate(packed);
            deflater.end();
            Inflater inflater = new Inflater();
            inflater.setInput(packed, 0, length);
            byte[] again = new byte[plain.length];
            int back = inflater.inflate(again);
            inflater.end();
            if (back != plain.length || !java.util.Arrays.equals(plain, again)) throw new Exception("changed");
            sum.update(again);
            held.add(buffer);
            if (held.size() > 50) held.remove((int) (state % 50));
        }
        return sum.getValue();
    }

    public static void main(String[] words) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> parts = new ArrayList<>();
        for (int part = 0; part < 16; part++) {
            final int seed = part;
            parts.add(pool.submit((Callable<Long>) () -> work(seed)));
        }
        long all = 0;
        for (Future<Long> part : parts) {
            System.out.println("part: " + part.get());
            all += part.get();
        }
        pool.shutdown();
        System.out.println("all: " + all);
    }
}
