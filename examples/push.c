/* Pushes an ASF file in real time to publishing points. Each step names the call of the Windows Media
 * Format SDK that it replaces.
 *
 *   cc examples/push.c -o push $(pkg-config --cflags --libs gstreamer-1.0)
 *   ./push concert.wmv http://localhost:8080/concert http://localhost:8081/concert
 *
 * Ctrl-C sends the end of the stream to all of them; a second Ctrl-C quits without waiting for it.
 *
 * With -DSTATIC_PLUGIN, and linked with the static library of scripts/cinstall, the plugin is a part of the program.
 */

#include <glib-unix.h>
#include <gst/gst.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef STATIC_PLUGIN
GST_PLUGIN_STATIC_DECLARE (asfpush);
#endif

static gchar *template_url = NULL;
static gboolean auto_destroy = FALSE;
static gchar **arguments = NULL;

static const GOptionEntry options[] = {
  {"template", 't', 0, G_OPTION_ARG_STRING, &template_url,
      "Publishing point to copy settings from when a new one is created", "URL"},
  {"auto-destroy", 'a', 0, G_OPTION_ARG_NONE, &auto_destroy,
      "Ask the server to remove the publishing points at the end of the push", NULL},
  {G_OPTION_REMAINING, 0, 0, G_OPTION_ARG_FILENAME_ARRAY, &arguments, NULL,
      "FILE URL..."},
  {NULL}
};

typedef struct
{
  GMainLoop *loop;
  GstElement *pipeline;
  gboolean ending;
  int code;
} Push;

/* IWMStatusCallback::OnStatus: the numbers are those of WMT_STATUS, `hresult` is the HRESULT, the last
 * argument is what Advise was given. As there, this is not a thread of the application. */
static void
on_status (GstElement * sink, GstObject * destination, gint status,
    guint hresult, const GstStructure * info, gpointer statuses)
{
  const gchar *text = gst_structure_get_string (info, "text");

  g_print ("%s %s (%d), hresult 0x%08x (%s)%s%s\n",
      GST_OBJECT_NAME (destination),
      g_enum_get_value (statuses, status)->value_nick, status, hresult,
      gst_structure_get_string (info, "hresult-name"),
      text ? ": " : "", text ? text : "");
}

/* A line of standard input; NULL at its end. */
static gchar *
ask (const gchar * question)
{
  gchar line[256];

  g_print ("%s: ", question);
  if (fgets (line, sizeof line, stdin) == NULL)
    return NULL;
  line[strcspn (line, "\n")] = '\0';
  return g_strdup (line);
}

/* IWMCredentialCallback::AcquireCredentials: `question` has its realm, site, and whether the password
 * is sent in clear text. The element waits on a separate thread; other destinations continue. */
static GstStructure *
on_request_credentials (GstElement * sink, GstObject * destination,
    const GstStructure * question, gpointer user_data)
{
  GstStructure *answer = NULL;
  gchar *user, *password = NULL;

  g_print ("%s: %s requires a user name and a password\n",
      GST_OBJECT_NAME (destination), gst_structure_get_string (question, "site"));
  user = ask ("user name");
  if (user)
    password = ask ("password (shown as you type)");
  if (password)
    answer = gst_structure_new ("credentials", "user-id", G_TYPE_STRING, user,
        "user-pw", G_TYPE_STRING, password, NULL);
  g_free (user);
  g_free (password);
  return answer;
}

static gboolean
on_message (GstBus * bus, GstMessage * message, gpointer user_data)
{
  Push *push = user_data;
  GError *error = NULL;

  switch (GST_MESSAGE_TYPE (message)) {
    case GST_MESSAGE_WARNING:
      gst_message_parse_warning (message, &error, NULL);
      g_printerr ("WARNING %s\n", error->message);
      g_error_free (error);
      break;
    case GST_MESSAGE_ERROR:
      gst_message_parse_error (message, &error, NULL);
      g_printerr ("%s\n", error->message);
      g_error_free (error);
      push->code = EXIT_FAILURE;
      g_main_loop_quit (push->loop);
      break;
    case GST_MESSAGE_EOS:
      g_main_loop_quit (push->loop);
      break;
    default:
      break;
  }
  return G_SOURCE_CONTINUE;
}

/* IWMWriter::EndWriting, and IWMWriterPushSink::EndSession on each push sink: EOS follows the last
 * packet, and its message arrives when the end of the stream was sent to the publishing points. */
static gboolean
on_interrupt (gpointer user_data)
{
  Push *push = user_data;

  if (push->ending) {
    g_printerr ("quit before all publishing points were notified of the end of the stream\n");
    push->code = EXIT_FAILURE;
    g_main_loop_quit (push->loop);
  }
  push->ending = TRUE;
  gst_element_send_event (push->pipeline, gst_event_new_eos ());
  return G_SOURCE_CONTINUE;
}

/* IWMWriterPushSink::Connect (url, template, auto-destroy). It returns at once, as there; the outcome is
 * the status `opened` with its HRESULT. There may be any number of publishing points: what were several
 * push sinks, each added to the writer, are destinations of one element. */
static gboolean
connect_to (GstElement * sink, GstBus * bus, const gchar * url)
{
  GstObject *destination = NULL;
  GstStructure *own = gst_structure_new ("options",
      "auto-destroy", G_TYPE_BOOLEAN, auto_destroy, NULL);

  if (template_url)
    gst_structure_set (own, "template-url", G_TYPE_STRING, template_url, NULL);
  g_signal_emit_by_name (sink, "add", url, own, &destination);
  gst_structure_free (own);
  if (destination == NULL) {
    /* Why not is a WARNING. */
    GstMessage *message = gst_bus_pop_filtered (bus, GST_MESSAGE_WARNING);
    GError *error = NULL;

    gst_message_parse_warning (message, &error, NULL);
    g_printerr ("%s\n", error->message);
    g_error_free (error);
    gst_message_unref (message);
    return FALSE;
  }
  gst_object_unref (destination);
  return TRUE;
}

int
main (int argc, char **argv)
{
  Push push = { NULL, NULL, FALSE, EXIT_SUCCESS };
  GOptionContext *context = g_option_context_new (NULL);
  GError *error = NULL;
  GstElement *source, *sink;
  GstBus *bus;
  GEnumClass *statuses;
  gulong advised;

  g_option_context_set_summary (context,
      "Pushes an ASF file in real time to publishing points.");
  g_option_context_add_main_entries (context, options, NULL);
  g_option_context_add_group (context, gst_init_get_option_group ());
  /* CoInitialize */
  if (!g_option_context_parse (context, &argc, &argv, &error)) {
    g_printerr ("%s\n", error->message);
    return EXIT_FAILURE;
  }
  if (arguments == NULL || g_strv_length (arguments) < 2) {
    g_printerr ("%s", g_option_context_get_help (context, TRUE, NULL));
    return EXIT_FAILURE;
  }
  if (!g_file_test (arguments[0], G_FILE_TEST_EXISTS)) {
    g_printerr ("cannot read %s: no such file\n", arguments[0]);
    return EXIT_FAILURE;
  }
  g_option_context_free (context);
#ifdef STATIC_PLUGIN
  GST_PLUGIN_STATIC_REGISTER (asfpush);
#endif

  /* WMCreateWriter, and IWMWriter::SetProfile: who makes the ASF. Here it is made already; an encoder
   * would end in asfmux. */
  source = gst_element_factory_make ("filesrc", NULL);
  g_object_set (source, "location", arguments[0], NULL);

  /* WMCreateWriterPushSink */
  sink = gst_element_factory_make ("asfpushsink", NULL);
  if (sink == NULL) {
    g_printerr ("the element asfpushsink was not found; set GST_PLUGIN_PATH to the directory of its plugin\n");
    return EXIT_FAILURE;
  }

  /* IWMWriterAdvanced::AddSink */
  push.pipeline = gst_pipeline_new (NULL);
  gst_bin_add_many (GST_BIN (push.pipeline), source, sink, NULL);
  gst_element_link (source, sink);

  /* IWMRegisterCallback::Advise */
  statuses = g_type_class_ref (g_type_from_name ("GstAsfPushStatus"));
  advised = g_signal_connect (sink, "status", G_CALLBACK (on_status), statuses);
  if (g_signal_lookup ("request-credentials", G_OBJECT_TYPE (sink)))
    g_signal_connect (sink, "request-credentials",
        G_CALLBACK (on_request_credentials), NULL);

  /* In NULL the bus keeps nothing, not even why a location is refused. */
  bus = gst_element_get_bus (push.pipeline);
  gst_element_set_state (push.pipeline, GST_STATE_READY);
  for (gchar ** url = arguments + 1; *url; url++) {
    if (!connect_to (sink, bus, *url))
      push.code = EXIT_FAILURE;
  }

  if (push.code == EXIT_SUCCESS) {
    push.loop = g_main_loop_new (NULL, FALSE);
    gst_bus_add_watch (bus, on_message, &push);
    g_unix_signal_add (SIGINT, on_interrupt, &push);
    g_unix_signal_add (SIGTERM, on_interrupt, &push);

    /* IWMWriter::BeginWriting; IWMWriterSink::OnHeader and OnDataUnit are then the buffers that flow. */
    gst_element_set_state (push.pipeline, GST_STATE_PLAYING);
    g_main_loop_run (push.loop);

    gst_bus_remove_watch (bus);
    g_main_loop_unref (push.loop);
  }

  /* IWMWriterPushSink::Disconnect, if the stream has not ended yet. */
  gst_element_set_state (push.pipeline, GST_STATE_NULL);
  /* IWMRegisterCallback::Unadvise */
  g_signal_handler_disconnect (sink, advised);
  g_type_class_unref (statuses);
  /* IWMWriterAdvanced::RemoveSink, and Release of all interfaces */
  gst_object_unref (bus);
  gst_object_unref (push.pipeline);
  g_strfreev (arguments);
  g_free (template_url);
  return push.code;
}
