import CNGHTTP2

/// The connection that nghttp2 calls back.
private func withConnection(
  _ data: UnsafeMutableRawPointer?, _ body: (HTTP2Connection) -> Int32
) -> Int32 {
  let box = data.unsafelyUnwrapped.assumingMemoryBound(to: Unmanaged<HTTP2Connection>?.self)
  guard let connection = box.pointee else { return 0 }
  return connection._withUnsafeGuaranteedRef { connection in
    let result = body(connection)
    return connection.isStopped ? NGHTTP2_ERR_CALLBACK_FAILURE.rawValue : result
  }
}

// nghttp2's callbacks, each a line to the sink. nghttp2 calls them within `receive` and `produce`
// alone, so that the connection is there.
extension HTTP2Connection {
  static func makeCallbacks() -> OpaquePointer? {
    var made: OpaquePointer?
    guard nghttp2_session_callbacks_new(&made) == 0, let callbacks = made else { return nil }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks) { _, frame, data in
      withConnection(data) { $0.headersBegan(frame.unsafelyUnwrapped) }
    }
    nghttp2_session_callbacks_set_on_header_callback(callbacks) {
      _, _, name, nameCount, value, valueCount, _, data in
      withConnection(data) {
        $0.withSink {
          $0.header(
            UnsafeRawBufferPointer(start: name, count: nameCount),
            UnsafeRawBufferPointer(start: value, count: valueCount))
        }
        return 0
      }
    }
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, data in
      withConnection(data) { $0.frameArrived(frame.unsafelyUnwrapped) }
    }
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) {
      session, _, stream, bytes, count, data in
      // The connection's window is open whatever the stream does.
      nghttp2_session_consume_connection(session, count)
      return withConnection(data) {
        $0.withSink {
          $0.dataArrived(
            stream, nghttp2_session_get_stream_user_data(session, stream),
            UnsafeRawBufferPointer(start: bytes, count: count))
        }
        return 0
      }
    }
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) {
      session, stream, code, data in
      withConnection(data) {
        if $0.headersUnderWay == stream { $0.headersUnderWay = 0 }
        $0.withSink {
          $0.streamClosed(
            stream, nghttp2_session_get_stream_user_data(session, stream), code: code)
        }
        return 0
      }
    }
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks) { _, _, _, data in
      withConnection(data) {
        $0.withSink { $0.controlArrived(.invalid) }
        return 0
      }
    }
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks) { session, frame, data in
      withConnection(data) { $0.frameSent(frame.unsafelyUnwrapped) }
    }
    nghttp2_session_callbacks_set_send_data_callback(callbacks) {
      session, frame, header, count, source, data in
      withConnection(data) {
        $0.withSink {
          $0.sendBody(
            source.unsafelyUnwrapped.pointee.ptr.unsafelyUnwrapped,
            header: UnsafeRawBufferPointer(start: header, count: 9), count: count)
        } ? 0 : NGHTTP2_ERR_WOULDBLOCK.rawValue
      }
    }
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks) {
      _, _, _, connectionWindow, streamWindow, frameBytesMax, _ in
      min(
        Int(connectionWindow), Int(streamWindow), Int(frameBytesMax), HTTP2Connection.bodyBytesMax)
    }
    return callbacks
  }

  private func headersBegan(_ frame: UnsafePointer<nghttp2_frame>) -> Int32 {
    headersUnderWay = frame.pointee.hd.stream_id
    withSink { $0.headersBegan(frame.pointee.hd.stream_id) }
    return 0
  }

  private func frameArrived(_ frame: UnsafePointer<nghttp2_frame>) -> Int32 {
    let header = frame.pointee.hd
    let isLast = header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
    switch UInt32(header.type) {
    case NGHTTP2_HEADERS.rawValue:
      headersUnderWay = 0
      if frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST {
        withSink { $0.headersArrived(header.stream_id, isLast: isLast) }
      } else {
        withSink { $0.trailersArrived(header.stream_id, isLast: isLast) }
      }
    case NGHTTP2_DATA.rawValue:
      if isLast {
        withSink {
          $0.dataEnded(
            header.stream_id, nghttp2_session_get_stream_user_data(session, header.stream_id))
        }
      } else if header.length > 0, header.length <= frame.pointee.data.padlen {
        // Padding alone.
        withSink { $0.controlArrived(.emptyData) }
      }
    case NGHTTP2_PING.rawValue:
      if header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0 {
        withSink { $0.pingAcknowledged() }
      } else {
        withSink { $0.controlArrived(.ping) }
      }
    case NGHTTP2_SETTINGS.rawValue:
      if header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0 { break }
      if !hasSettings {
        hasSettings = true
        withSink { $0.settingsArrived() }
      }
      withSink { $0.controlArrived(.settings) }
    case NGHTTP2_GOAWAY.rawValue: isPeerLeaving = true
    case NGHTTP2_RST_STREAM.rawValue: withSink { $0.controlArrived(.reset) }
    default: break
    }
    return 0
  }

  private func frameSent(_ frame: UnsafePointer<nghttp2_frame>) -> Int32 {
    let header = frame.pointee.hd
    if UInt32(header.type) == NGHTTP2_RST_STREAM.rawValue {
      withSink { $0.controlArrived(.ourReset) }
    } else if UInt32(header.type) == NGHTTP2_GOAWAY.rawValue {
      if frame.pointee.goaway.error_code != HTTP2ErrorCode.noError.rawValue {
        hasFailed = true
      } else if frame.pointee.goaway.last_stream_id == Int32.max {
        // nghttp2 would send a PING that was submitted together with the notice before it.
        nghttp2_submit_ping(session, 0, nil)
      }
    } else if UInt32(header.type) == NGHTTP2_HEADERS.rawValue,
      header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0,
      nghttp2_session_get_stream_remote_close(session, header.stream_id) == 0
    {
      withSink { $0.answeredEarly(header.stream_id) }
    }
    return 0
  }
}
