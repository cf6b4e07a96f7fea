import com.segment.analytics.kotlin.core.Configuration;
import com.segment.analytics.kotlin.core.RequestFactory;
import com.segment.analytics.kotlin.core.compat.ConfigurationBuilder;
import com.segment.analytics.kotlin.core.compat.JavaAnalytics;
import com.segment.analytics.kotlin.core.platform.plugins.SegmentDestination;
import com.segment.analytics.kotlin.core.platform.plugins.StartupQueue;
import com.segment.analytics.kotlin.core.utilities.InMemoryStorageProvider;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.HttpURLConnection;
import java.nio.charset.StandardCharsets;
import kotlinx.serialization.json.Json;
import kotlinx.serialization.json.JsonElement;
import kotlinx.serialization.json.JsonElementKt;
import kotlinx.serialization.json.JsonObject;

/** com.segment.analytics.kotlin:core sends calls: {@code SegmentKotlin URL KEY}, one call as JSON in each line of stdin.
 *  It goes on until it is killed: it cannot tell whether all are sent. */
public class SegmentKotlin {
    /** Hands every call to the SDK, which sends them in the background. */
    public static void main(String[] arguments) throws Exception {
        String host = arguments[0].replace("http://", "");
        Configuration configuration = new ConfigurationBuilder(arguments[1])
            .setApplication("tests")
            .setApiHost(host)
            .setCdnHost(host)
            .setFlushAt(5)
            .setFlushInterval(1)
            .setRequestFactory(new WithoutTls())
            .build();
        configuration.setStorageProvider(new InMemoryStorageProvider()); // files would stay in /tmp
        JavaAnalytics analytics = started(configuration);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            send(analytics, (JsonObject) Json.Default.parseToJsonElement(line));
        }
    }

    /** The SDK once it has its settings. Without its queue of calls from before: on a busy machine the queue can hear of
     *  the end of the start first and then of its beginning, and keeps all calls for ever. */
    private static JavaAnalytics started(Configuration configuration) throws InterruptedException {
        JavaAnalytics analytics = new JavaAnalytics(configuration);
        SegmentDestination destination = null;
        while (destination == null || !destination.getEnabled$core()) {
            Thread.sleep(5);
            destination = analytics.find(SegmentDestination.class);
        }
        return analytics.remove(analytics.find(StartupQueue.class));
    }

    private static void send(JavaAnalytics analytics, JsonObject call) throws InterruptedException {
        JsonObject properties = object(call, "properties");
        switch (text(call, "type")) {
            case "identify" -> identify(analytics, text(call, "userId"), object(call, "traits"));
            case "track" -> analytics.track(text(call, "event"), properties);
            case "screen" -> analytics.screen(text(call, "name"), properties);
            case "group" -> analytics.group(text(call, "groupId"), object(call, "traits"));
            case "alias" -> analytics.alias(text(call, "userId"));
            default -> throw new IllegalArgumentException(call.toString());
        }
    }

    /** The SDK keeps the user in the background, and calls before it has done so are without one
     *  (segmentio/analytics-kotlin#262). */
    private static void identify(JavaAnalytics analytics, String user, JsonObject traits) throws InterruptedException {
        analytics.identify(user, traits);
        while (!user.equals(analytics.userId())) {
            Thread.sleep(5);
        }
    }

    private static String text(JsonObject call, String name) {
        return JsonElementKt.getContentOrNull(JsonElementKt.getJsonPrimitive((JsonElement) call.get(name)));
    }

    private static JsonObject object(JsonObject call, String name) {
        return call.get(name) instanceof JsonObject found ? found : (JsonObject) Json.Default.parseToJsonElement("{}");
    }

    /** The SDK knows only https, and the collector of the tests has no certificate. */
    private static final class WithoutTls extends RequestFactory {
        @Override
        public HttpURLConnection openConnection(String url) {
            return super.openConnection(url.replace("https://", "http://"));
        }
    }
}
