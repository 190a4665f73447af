import LossdTensor
import Testing

@testable import LossdFiles

@Suite struct GoldenTests {
  @Test(
    "what numpy and safetensors wrote is read as they meant it", arguments: try Golden.entries())
  func goldenFilesAreRead(_ entry: Golden.Entry) throws {
    let reference = entry.tensor.map { "\(entry.path):\($0)" } ?? entry.path
    let stored = try TensorFile.tensor(at: reference)
    #expect(stored.dataType.description == entry.dataType)
    #expect(stored.shape == entry.shape)
    let tensor = stored.tensor()
    #expect(tensor.shape == entry.shape)
    #expect(tensor.doubles == entry.values.map(\.double))
    #expect(Int(bitPattern: tensor.buffer.base) % 64 == 0)
    if stored.dataType == .int64 {
      let exact = (0..<tensor.count).map {
        Golden.Value.integer(tensor.bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self))
      }
      #expect(exact == entry.values)
    }
  }

  @Test(
    "rows are read one by one and in ranges, in whatever order the file has them",
    arguments: try Golden.entries())
  func rowsOfGoldenFiles(_ entry: Golden.Entry) throws {
    let stored = try TensorFile(path: entry.path).tensor(named: entry.tensor)
    var joined: [UInt8] = []
    if !stored.shape.isEmpty {
      for row in 0..<stored.rowCount { joined += bytes(of: stored.tensor(ofRows: row..<row + 1)) }
      #expect(joined == bytes(of: stored.tensor()))
      #expect(joined.count == stored.byteCount)
      #expect(stored.tensor(ofRows: stored.rowCount..<stored.rowCount).byteCount == 0)
    }
    #expect(stored.isInPlace || entry.file.hasPrefix("order_"))
    if stored.isInPlace {
      joined = []
      for row in 0..<stored.rowCount { stored.withBytes(ofRows: row..<row + 1) { joined += $0 } }
      #expect(joined == bytes(of: stored.tensor()))
    }
    if stored.rowCount > 1 {
      let tail = stored.tensor(ofRows: 1..<stored.rowCount)
      #expect(tail.shape == [stored.rowCount - 1] + stored.rowShape)
      #expect(tail.doubles == Array(stored.tensor().doubles.dropFirst(tail.count / tail.shape[0])))
    }
  }

  @Test("a .npy file written here equals numpy's byte by byte", arguments: try Golden.entries())
  func writtenFilesEqualNumpys(_ entry: Golden.Entry) throws {
    guard entry.file.hasSuffix(".npy"), !entry.file.hasPrefix("version"),
      !entry.file.hasPrefix("order_")
    else { return }
    let scratch = try Scratch()
    let path = try scratch.file("out.npy")
    try NPYWriter.write(try TensorFile.tensor(at: entry.path).tensor(), to: path)
    let written = try TensorFile.tensor(at: path)
    #expect(written.shape == entry.shape)
    let golden = try Golden.bytes(entry.file)
    #expect(try bytes(ofFile: path) == golden)
    #expect(try scratch.names == ["out.npy"])
  }

  @Test(
    "what lossd has no match for is refused by name",
    arguments: [
      ("refused_object.npy", "Python objects"), ("refused_structured.npy", "structured"),
      ("refused_complex.npy", "<c8"), ("refused_unsigned.npy", "<u4"),
      ("refused_archive.npz", "zip archive"), ("every.safetensors:unsupported", "U32"),
    ])
  func unsupportedFilesAreRefused(_ file: String, _ text: String) throws {
    let error = #expect(throws: FileError.self) {
      try TensorFile.tensor(at: "\(Golden.folder)/\(file)")
    }
    #expect(error?.kind == .unsupported)
    #expect(error?.description.contains(text) == true, "\(String(describing: error))")
    #expect(error?.path.hasPrefix(Golden.folder) == true)
  }

  @Test(
    "rows of a large tensor in another order are the elements that the indices say, for any range"
  )
  func largeTensorsInAnotherOrder() throws {
    let scratch = try Scratch()
    for shape in [[1000, 37], [3, 50_000], [70, 5, 1, 9], [40_000, 1, 2]] {
      let count = shape.reduce(1, *)
      // The element at its place of the file is that place; its value, big-endian.
      let sizes = shape.map { String($0) }.joined(separator: ", ")
      var file = npy("{'descr': '>i4', 'fortran_order': True, 'shape': (\(sizes))}")
      for place in 0..<Int32(count) { withUnsafeBytes(of: place.bigEndian) { file += $0 } }
      let stored = try TensorFile.tensor(at: try scratch.file("large.npy", file))
      #expect(!stored.isInPlace)
      var strides = [1]
      for size in shape.dropLast() { strides.append(strides[strides.count - 1] * size) }
      let columns = count / shape[0]
      let middle = shape[0] / 3..<shape[0] - shape[0] / 5
      for rows in [0..<shape[0], middle, shape[0] - 1..<shape[0], 1..<1] {
        let found = stored.tensor(ofRows: rows).doubles
        var expected: [Double] = []
        for row in rows {
          for column in 0..<columns {
            var (rest, place) = (column, row)
            for dimension in stride(from: shape.count - 1, to: 0, by: -1) {
              place += rest % shape[dimension] * strides[dimension]
              rest /= shape[dimension]
            }
            expected.append(Double(place))
          }
        }
        #expect(found == expected, "\(shape), rows \(rows)")
      }
    }
  }

  @Test("a name is needed where a file holds several tensors, and must be in it")
  func tensorsAreNamed() throws {
    let every = "\(Golden.folder)/every.safetensors"
    for reference in [every, every + ":", every + ":logits", "\(Golden.folder)/none.safetensors"] {
      let error = #expect(throws: FileError.self) { try TensorFile.tensor(at: reference) }
      #expect(error?.kind == .notFound, "\(reference)")
    }
    #expect(try TensorFile(path: every).metadata == ["format": "np", "by": "make_golden.py"])
    let single = try TensorFile(path: "\(Golden.folder)/single.safetensors")
    #expect(single.names == ["logits"])
    #expect(try single.tensor().tensor().doubles == single.tensor(named: "logits").tensor().doubles)
    #expect(throws: FileError.self) {
      try TensorFile(path: "\(Golden.folder)/int8.npy").tensor(named: "logits")
    }
  }

  @Test("only .safetensors: parts a path from a name")
  func references() {
    #expect(TensorFile.split("a.npy") == ("a.npy", nil))
    #expect(TensorFile.split("a:b.npy") == ("a:b.npy", nil))
    #expect(TensorFile.split("m.safetensors") == ("m.safetensors", nil))
    #expect(TensorFile.split("m.safetensors:") == ("m.safetensors", ""))
    #expect(TensorFile.split("c:m.safetensors:a:b") == ("c:m.safetensors", "a:b"))
    #expect(
      TensorFile.split("m.safetensors:x.safetensors:y") == ("m.safetensors", "x.safetensors:y"))
    #expect(TensorFile.split("") == ("", nil))
  }
}
