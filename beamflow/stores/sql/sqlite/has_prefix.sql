      AND +c.id >= :prefix AND +c.id < :prefix || char(0x10ffff)
