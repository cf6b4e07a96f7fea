import com.segment.analytics.kotlin.core.Configuration;
import com.segment.analytics.kotlin.core.RequestFactory;
import com.segment.analytics.kotlin.core.compat.ConfigurationBuilder;
import com.segment.analytics.kotlin.core.compat.JavaAnalytics;
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
        JavaAnalytics analytics = new JavaAnalytics(configuration);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            send(analytics, (JsonObject) Json.Default.parseToJsonElement(line));
        }
    }

    private static void send(JavaAnalytics analytics, JsonObject call) {
        JsonObject properties = object(call, "properties");
        switch (text(call, "type")) {
            case "identify" -> analytics.identify(text(call, "userId"), object(call, "traits"));
            case "track" -> analytics.track(text(call, "event"), properties);
            case "screen" -> analytics.screen(text(call, "name"), properties);
            case "group" -> analytics.group(text(call, "groupId"), object(call, "traits"));
            case "alias" -> analytics.alias(text(call, "userId"));
            default -> throw new IllegalArgumentException(call.toString());
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
